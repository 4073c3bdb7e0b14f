// A stand-in for the plug-in `iluvatar_gpu`: a custom device of Paddle 3 that is made of host memory.
//
// It brings no kernels of its own, so Paddle computes each operation on the CPU and copies to the "device" and back. What
// is real is everything around the kernels: how a plug-in is found and loaded, how a device is selected in a process and
// in ranks, where tensors live, and collectives over a library that is not Paddle's. Written against `device_ext.h` of the
// installed wheel. It says nothing about the vendor's kernels, memory, or speed.

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <sstream>
#include <string>
#include <vector>

#include "paddle/phi/backends/device_ext.h"

#ifndef DOUBLE_DEVICES
#define DOUBLE_DEVICES 2
#endif

namespace {

// ---- devices, streams, events: the host is always done with everything.

thread_local int current_device = 0;

C_Status nothing() { return C_SUCCESS; }
C_Status device_ready(const C_Device) { return C_SUCCESS; }

C_Status set_device(const C_Device device) {
  current_device = device->id;
  return C_SUCCESS;
}

C_Status get_device(const C_Device device) {
  device->id = current_device;
  return C_SUCCESS;
}

C_Status create_stream(const C_Device, C_Stream* stream) {
  // Paddle tells streams apart by their address.
  *stream = reinterpret_cast<C_Stream>(new char);
  return C_SUCCESS;
}

C_Status destroy_stream(const C_Device, C_Stream stream) {
  delete reinterpret_cast<char*>(stream);
  return C_SUCCESS;
}

C_Status stream_done(const C_Device, C_Stream) { return C_SUCCESS; }

C_Status add_callback(const C_Device device, C_Stream stream, C_Callback callback, void* user_data) {
  C_Status status = C_SUCCESS;
  callback(device, stream, user_data, &status);
  return status;
}

C_Status create_event(const C_Device, C_Event* event) {
  *event = reinterpret_cast<C_Event>(new char);
  return C_SUCCESS;
}

C_Status destroy_event(const C_Device, C_Event event) {
  delete reinterpret_cast<char*>(event);
  return C_SUCCESS;
}

C_Status record_event(const C_Device, C_Stream, C_Event) { return C_SUCCESS; }
C_Status event_done(const C_Device, C_Event) { return C_SUCCESS; }
C_Status wait_event(const C_Device, C_Stream, C_Event) { return C_SUCCESS; }

// The numbers that the machine gives to the devices of this process. Like CoreX, it obeys CUDA's variable: the process numbers
// from 0 those that the list names, which ends at the first entry that is no device.
std::vector<size_t> find_visible() {
  std::vector<size_t> devices;
  const char* const named = getenv("CUDA_VISIBLE_DEVICES");
  for (size_t index = 0; named == nullptr && index < DOUBLE_DEVICES; ++index) devices.push_back(index);
  std::istringstream entries(named == nullptr ? "" : named);
  for (std::string entry; std::getline(entries, entry, ',');) {
    size_t index = 0;
    if (!(std::istringstream(entry) >> index) || index >= DOUBLE_DEVICES) break;
    devices.push_back(index);
  }
  return devices;
}

const std::vector<size_t>& visible() {
  static const std::vector<size_t> devices = find_visible();
  return devices;
}

C_Status count_devices(size_t* count) {
  *count = visible().size();
  return C_SUCCESS;
}

C_Status list_devices(size_t* devices) {
  for (size_t index = 0; index < visible().size(); ++index) devices[index] = index;
  return C_SUCCESS;
}

// ---- memory

// Leaves the file `used` beside the library: a test then knows that something has been put on a device. Where the variable
// DOUBLE_USERS names a file, a line there says on which one, by the machine's number, and by which process.
bool leave_mark(size_t device) {
  Dl_info self;
  if (dladdr(reinterpret_cast<void*>(&leave_mark), &self) == 0) return false;
  const std::string mark = std::string(self.dli_fname).substr(0, std::string(self.dli_fname).rfind('/')) + "/used";
  const int file = open(mark.c_str(), O_CREAT | O_WRONLY, 0600);
  if (file >= 0) close(file);
  const char* const users = getenv("DOUBLE_USERS");
  FILE* const list = users == nullptr ? nullptr : fopen(users, "a");
  if (list != nullptr) {
    fprintf(list, "%zu %d\n", device, static_cast<int>(getpid()));
    fclose(list);
  }
  return true;
}

C_Status allocate_on_device(const C_Device device, void** pointer, size_t size) {
  static const bool marked = leave_mark(visible().at(device->id));
  return marked && posix_memalign(pointer, 256, std::max<size_t>(size, 1)) == 0 ? C_SUCCESS : C_FAILED;
}

C_Status allocate(const C_Device, void** pointer, size_t size) {
  return posix_memalign(pointer, 256, std::max<size_t>(size, 1)) == 0 ? C_SUCCESS : C_FAILED;
}

C_Status release(const C_Device, void* pointer, size_t) {
  free(pointer);
  return C_SUCCESS;
}

C_Status fill(const C_Device, void* pointer, unsigned char value, size_t size) {
  memset(pointer, value, size);
  return C_SUCCESS;
}

C_Status copy(const C_Device, void* to, const void* from, size_t size) {
  memcpy(to, from, size);
  return C_SUCCESS;
}

// Tells of each copy to the device, where a test wants to know: one line in the file that DOUBLE_TRACE names.
void trace(const char* what, size_t size) {
  static const char* const name = getenv("DOUBLE_TRACE");
  static FILE* const file = name == nullptr ? nullptr : fopen(name, "a");
  if (file == nullptr) return;
  fprintf(file, "%s %zu\n", what, size);
  fflush(file);
}

C_Status copy_to_device(const C_Device, void* to, const void* from, size_t size) {
  trace("waited-for", size);
  memcpy(to, from, size);
  return C_SUCCESS;
}

C_Status copy_to_device_later(const C_Device, C_Stream, void* to, const void* from, size_t size) {
  trace("queued", size);
  memcpy(to, from, size);
  return C_SUCCESS;
}

C_Status copy_between(const C_Device, const C_Device, void* to, const void* from, size_t size) {
  memcpy(to, from, size);
  return C_SUCCESS;
}

C_Status copy_later(const C_Device, C_Stream, void* to, const void* from, size_t size) {
  memcpy(to, from, size);
  return C_SUCCESS;
}

C_Status copy_between_later(const C_Device, const C_Device, C_Stream, void* to, const void* from, size_t size) {
  memcpy(to, from, size);
  return C_SUCCESS;
}

C_Status memory_stats(const C_Device, size_t* total, size_t* free_bytes) {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  *total = static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * page;
  *free_bytes = static_cast<size_t>(sysconf(_SC_AVPHYS_PAGES)) * page;
  return C_SUCCESS;
}

C_Status chunk_size(const C_Device, size_t* size) {
  *size = 256;
  return C_SUCCESS;
}

// ---- collectives over a file in shared memory

constexpr size_t kMostRanks = 8;
constexpr size_t kChunk = 1 << 20;
constexpr double kLimitSeconds = 120;

struct Shared {
  std::atomic<uint32_t> arrived;
  std::atomic<uint32_t> round;
  alignas(64) char slots[kMostRanks][kChunk];
};

struct Communicator {
  Shared* shared;
  size_t rank;
  size_t ranks;
};

Communicator* of(C_CCLComm comm) { return reinterpret_cast<Communicator*>(comm); }

double now() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

void nap() {
  const timespec time = {0, 50000};
  nanosleep(&time, nullptr);
}

// All ranks meet here; false where one has not come within the limit.
bool meet(Communicator* self) {
  Shared* shared = self->shared;
  const uint32_t round = shared->round.load();
  if (shared->arrived.fetch_add(1) + 1 == self->ranks) {
    shared->arrived.store(0);
    shared->round.store(round + 1);
    return true;
  }
  const double deadline = now() + kLimitSeconds;
  while (shared->round.load() == round) {
    if (now() > deadline) return false;
    nap();
  }
  return true;
}

C_Status unique_id_size(size_t* size) {
  *size = 32;
  return C_SUCCESS;
}

C_Status unique_id(C_CCLRootId* id) {
  snprintf(static_cast<char*>(id->data), id->sz, "/stdc-double-%d-%ld", getpid(), static_cast<long>(now() * 1e6) % 1000000);
  return C_SUCCESS;
}

C_Status join(size_t ranks, C_CCLRootId* id, size_t rank, C_CCLComm* comm) {
  if (ranks > kMostRanks) return C_ERROR;
  const char* name = static_cast<const char*>(id->data);
  int file = -1;
  if (rank == 0) {
    file = shm_open(name, O_CREAT | O_EXCL | O_RDWR, 0600);
    if (file < 0 || ftruncate(file, sizeof(Shared)) != 0) return C_FAILED;
  }
  const double deadline = now() + kLimitSeconds;
  struct stat state = {};
  while (rank != 0) {
    if (file < 0) file = shm_open(name, O_RDWR, 0600);
    if (file >= 0 && fstat(file, &state) == 0 && state.st_size == sizeof(Shared)) break;
    if (now() > deadline) return C_FAILED;
    nap();
  }
  void* memory = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (memory == MAP_FAILED) return C_FAILED;
  // A new file is zeros, which is the state that both counters start from.
  auto* self = new Communicator{static_cast<Shared*>(memory), rank, ranks};
  if (!meet(self)) return C_FAILED;
  // All have it open: nothing stays behind, whoever is killed later.
  if (rank == 0) shm_unlink(name);
  *comm = reinterpret_cast<C_CCLComm>(self);
  return C_SUCCESS;
}

C_Status leave(C_CCLComm comm) {
  munmap(of(comm)->shared, sizeof(Shared));
  delete of(comm);
  return C_SUCCESS;
}

C_Status comm_name(C_CCLComm, char* name) {
  strcpy(name, "stdc-double");
  return C_SUCCESS;
}

size_t bytes_of(C_DataType type) {
  switch (type) {
    case BOOL: case UINT8: case INT8: return 1;
    case UINT16: case INT16: case FLOAT16: case BFLOAT16: return 2;
    case UINT32: case INT32: case FLOAT32: return 4;
    default: return 8;
  }
}

template <typename T>
void combine(T* total, const T* values, size_t count, C_CCLReduceOp op) {
  for (size_t index = 0; index < count; ++index) {
    switch (op) {
      case MAX: total[index] = std::max(total[index], values[index]); break;
      case MIN: total[index] = std::min(total[index], values[index]); break;
      case PRODUCT: total[index] *= values[index]; break;
      default: total[index] += values[index];
    }
  }
}

// In the order of the ranks, so that all get the same bytes.
C_Status all_reduce(void* send, void* receive, size_t count, C_DataType type, C_CCLReduceOp op, C_CCLComm comm, C_Stream) {
  Communicator* self = of(comm);
  const size_t width = bytes_of(type), most = kChunk / width;
  for (size_t start = 0; start < count; start += most) {
    const size_t some = std::min(most, count - start);
    memcpy(self->shared->slots[self->rank], static_cast<char*>(send) + start * width, some * width);
    if (!meet(self)) return C_FAILED;
    char* total = static_cast<char*>(receive) + start * width;
    memcpy(total, self->shared->slots[0], some * width);
    for (size_t rank = 1; rank < self->ranks; ++rank) {
      const char* slot = self->shared->slots[rank];
      switch (type) {
        case FLOAT32: combine(reinterpret_cast<float*>(total), reinterpret_cast<const float*>(slot), some, op); break;
        case FLOAT64: combine(reinterpret_cast<double*>(total), reinterpret_cast<const double*>(slot), some, op); break;
        case INT32: combine(reinterpret_cast<int32_t*>(total), reinterpret_cast<const int32_t*>(slot), some, op); break;
        case INT64: combine(reinterpret_cast<int64_t*>(total), reinterpret_cast<const int64_t*>(slot), some, op); break;
        case UINT8: combine(reinterpret_cast<uint8_t*>(total), reinterpret_cast<const uint8_t*>(slot), some, op); break;
        default: return C_ERROR;
      }
    }
    if (op == AVG) return C_ERROR;
    if (!meet(self)) return C_FAILED;
  }
  return C_SUCCESS;
}

C_Status broadcast(void* buffer, size_t count, C_DataType type, size_t root, C_CCLComm comm, C_Stream) {
  Communicator* self = of(comm);
  const size_t size = count * bytes_of(type);
  for (size_t start = 0; start < size; start += kChunk) {
    const size_t some = std::min(kChunk, size - start);
    char* part = static_cast<char*>(buffer) + start;
    if (self->rank == root) memcpy(self->shared->slots[0], part, some);
    if (!meet(self)) return C_FAILED;
    if (self->rank != root) memcpy(part, self->shared->slots[0], some);
    if (!meet(self)) return C_FAILED;
  }
  return C_SUCCESS;
}

C_Status all_gather(void* send, void* receive, size_t count, C_DataType type, C_CCLComm comm, C_Stream) {
  Communicator* self = of(comm);
  const size_t size = count * bytes_of(type);
  for (size_t start = 0; start < size; start += kChunk) {
    const size_t some = std::min(kChunk, size - start);
    memcpy(self->shared->slots[self->rank], static_cast<char*>(send) + start, some);
    if (!meet(self)) return C_FAILED;
    for (size_t rank = 0; rank < self->ranks; ++rank) {
      memcpy(static_cast<char*>(receive) + rank * size + start, self->shared->slots[rank], some);
    }
    if (!meet(self)) return C_FAILED;
  }
  return C_SUCCESS;
}

}  // namespace

extern "C" void InitPlugin(CustomRuntimeParams* params) {
  PADDLE_CUSTOM_RUNTIME_CHECK_VERSION(params);
  params->device_type = const_cast<char*>("iluvatar_gpu");
  params->sub_device_type = const_cast<char*>("stand-in");
  C_DeviceInterface* device = params->interface;
  device->initialize = nothing;
  device->finalize = nothing;
  device->init_device = device_ready;
  device->set_device = set_device;
  device->get_device = get_device;
  device->deinit_device = device_ready;
  device->create_stream = create_stream;
  device->destroy_stream = destroy_stream;
  device->query_stream = stream_done;
  device->stream_add_callback = add_callback;
  device->create_event = create_event;
  device->record_event = record_event;
  device->destroy_event = destroy_event;
  device->query_event = event_done;
  device->synchronize_device = device_ready;
  device->synchronize_stream = stream_done;
  device->synchronize_event = event_done;
  device->stream_wait_event = wait_event;
  device->device_memory_allocate = allocate_on_device;
  device->device_memory_deallocate = release;
  device->device_memory_set = fill;
  device->host_memory_allocate = allocate;
  device->host_memory_deallocate = release;
  device->unified_memory_allocate = allocate;
  device->unified_memory_deallocate = release;
  device->memory_copy_h2d = copy_to_device;
  device->memory_copy_d2h = copy;
  device->memory_copy_d2d = copy;
  device->memory_copy_p2p = copy_between;
  device->async_memory_copy_h2d = copy_to_device_later;
  device->async_memory_copy_d2h = copy_later;
  device->async_memory_copy_d2d = copy_later;
  device->async_memory_copy_p2p = copy_between_later;
  device->get_device_count = count_devices;
  device->get_device_list = list_devices;
  device->device_memory_stats = memory_stats;
  device->device_min_chunk_size = chunk_size;
  device->xccl_get_comm_name = comm_name;
  device->xccl_get_unique_id_size = unique_id_size;
  device->xccl_get_unique_id = unique_id;
  device->xccl_comm_init_rank = join;
  device->xccl_destroy_comm = leave;
  device->xccl_all_reduce = all_reduce;
  device->xccl_broadcast = broadcast;
  device->xccl_all_gather = all_gather;
  device->xccl_group_start = nothing;
  device->xccl_group_end = nothing;
}
