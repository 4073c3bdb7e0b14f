/* A stand-in for libcudart.so.10.2 on machines without CUDA.
 *
 * The only builds of Paddle 2.4 that can still be had are for CUDA, and importing them needs this library. Each function
 * says what the real library says where there is no driver, so Paddle finds no device and computes on the CPU. Nothing
 * here computes. The names are those that the wheel of paddlepaddle-gpu 2.4.2 asks for (nm -D --undefined-only).
 */
#include <stddef.h>

enum { SUCCESS = 0, NO_DEVICE = 100 };

#define NO_DEVICE_FOR(name) int name(void) { return NO_DEVICE; }

int cudaDriverGetVersion(int *version) { *version = 0; return SUCCESS; }
int cudaRuntimeGetVersion(int *version) { *version = 10020; return SUCCESS; }
int cudaGetDeviceCount(int *count) { *count = 0; return NO_DEVICE; }
int cudaGetLastError(void) { return SUCCESS; }
int cudaPeekAtLastError(void) { return SUCCESS; }
const char *cudaGetErrorName(int error) { return error == SUCCESS ? "cudaSuccess" : "cudaErrorNoDevice"; }
const char *cudaGetErrorString(int error) {
    return error == SUCCESS ? "no error" : "no CUDA-capable device is detected (stand-in for libcudart)";
}

/* Called while the wheel's libraries are loaded: each translation unit registers its device code. */
static void *handle;
void **__cudaRegisterFatBinary(void *binary) { (void)binary; return &handle; }
void __cudaRegisterFatBinaryEnd(void **binary) { (void)binary; }
void __cudaUnregisterFatBinary(void **binary) { (void)binary; }
void __cudaRegisterFunction(void) {}
void __cudaRegisterVar(void) {}
char __cudaInitModule(void **binary) { (void)binary; return 0; }
unsigned __cudaPushCallConfiguration(void) { return NO_DEVICE; }
NO_DEVICE_FOR(__cudaPopCallConfiguration)

NO_DEVICE_FOR(cudaDeviceCanAccessPeer)
NO_DEVICE_FOR(cudaDeviceEnablePeerAccess)
NO_DEVICE_FOR(cudaDeviceGetAttribute)
NO_DEVICE_FOR(cudaDeviceSynchronize)
NO_DEVICE_FOR(cudaEventCreate)
NO_DEVICE_FOR(cudaEventCreateWithFlags)
NO_DEVICE_FOR(cudaEventDestroy)
NO_DEVICE_FOR(cudaEventElapsedTime)
NO_DEVICE_FOR(cudaEventQuery)
NO_DEVICE_FOR(cudaEventRecord)
NO_DEVICE_FOR(cudaEventSynchronize)
NO_DEVICE_FOR(cudaFree)
NO_DEVICE_FOR(cudaFreeHost)
NO_DEVICE_FOR(cudaFuncGetAttributes)
NO_DEVICE_FOR(cudaGetDevice)
NO_DEVICE_FOR(cudaGetDeviceProperties)
NO_DEVICE_FOR(cudaGraphDestroy)
NO_DEVICE_FOR(cudaGraphExecDestroy)
NO_DEVICE_FOR(cudaGraphExecKernelNodeSetParams)
NO_DEVICE_FOR(cudaGraphGetEdges)
NO_DEVICE_FOR(cudaGraphGetNodes)
NO_DEVICE_FOR(cudaGraphInstantiate)
NO_DEVICE_FOR(cudaGraphKernelNodeGetParams)
NO_DEVICE_FOR(cudaGraphLaunch)
NO_DEVICE_FOR(cudaGraphNodeGetType)
NO_DEVICE_FOR(cudaHostAlloc)
NO_DEVICE_FOR(cudaHostGetDevicePointer)
NO_DEVICE_FOR(cudaHostRegister)
NO_DEVICE_FOR(cudaIpcCloseMemHandle)
NO_DEVICE_FOR(cudaIpcGetMemHandle)
NO_DEVICE_FOR(cudaIpcOpenMemHandle)
NO_DEVICE_FOR(cudaLaunchHostFunc)
NO_DEVICE_FOR(cudaLaunchKernel)
NO_DEVICE_FOR(cudaMalloc)
NO_DEVICE_FOR(cudaMallocHost)
NO_DEVICE_FOR(cudaMallocManaged)
NO_DEVICE_FOR(cudaMemGetInfo)
NO_DEVICE_FOR(cudaMemcpy)
NO_DEVICE_FOR(cudaMemcpyAsync)
NO_DEVICE_FOR(cudaMemcpyPeer)
NO_DEVICE_FOR(cudaMemcpyPeerAsync)
NO_DEVICE_FOR(cudaMemset)
NO_DEVICE_FOR(cudaMemsetAsync)
NO_DEVICE_FOR(cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags)
NO_DEVICE_FOR(cudaPointerGetAttributes)
NO_DEVICE_FOR(cudaProfilerInitialize)
NO_DEVICE_FOR(cudaProfilerStart)
NO_DEVICE_FOR(cudaProfilerStop)
NO_DEVICE_FOR(cudaSetDevice)
NO_DEVICE_FOR(cudaStreamBeginCapture)
NO_DEVICE_FOR(cudaStreamCreate)
NO_DEVICE_FOR(cudaStreamCreateWithFlags)
NO_DEVICE_FOR(cudaStreamCreateWithPriority)
NO_DEVICE_FOR(cudaStreamDestroy)
NO_DEVICE_FOR(cudaStreamEndCapture)
NO_DEVICE_FOR(cudaStreamGetCaptureInfo)
NO_DEVICE_FOR(cudaStreamQuery)
NO_DEVICE_FOR(cudaStreamSynchronize)
NO_DEVICE_FOR(cudaStreamWaitEvent)
NO_DEVICE_FOR(cudaThreadExchangeStreamCaptureMode)
