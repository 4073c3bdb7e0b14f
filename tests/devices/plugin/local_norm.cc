// For the stand-in: a kernel that registers itself as `sync_batch_norm` and normalizes by each rank's own batch. A plug-in
// that brings the kernel and gets it wrong looks like this from outside.

#include <cmath>
#include <string>

#include "paddle/phi/backends/custom/custom_context.h"
#include "paddle/phi/core/dense_tensor.h"
#include "paddle/phi/core/kernel_registry.h"

namespace {

template <typename T, typename Context>
void LocalNorm(const Context& context, const phi::DenseTensor& x, const phi::DenseTensor& mean,
               const phi::DenseTensor& variance, const phi::DenseTensor& scale, const phi::DenseTensor& bias, bool, float momentum,
               float epsilon, const std::string&, bool, bool, phi::DenseTensor* y, phi::DenseTensor* mean_out,
               phi::DenseTensor* variance_out, phi::DenseTensor* saved_mean, phi::DenseTensor* saved_variance, phi::DenseTensor*) {
  const auto& shape = x.dims();  // (N, C, H, W)
  const int64_t images = shape[0], channels = shape[1], pixels = shape[2] * shape[3];
  const T* in = x.data<T>();
  T* out = context.template Alloc<T>(y);
  T* statistics[] = {context.template Alloc<T>(mean_out), context.template Alloc<T>(variance_out),
                     context.template Alloc<T>(saved_mean), context.template Alloc<T>(saved_variance)};
  for (int64_t channel = 0; channel < channels; ++channel) {
    double sum = 0, squares = 0;
    for (int64_t image = 0; image < images; ++image) {
      for (int64_t pixel = 0; pixel < pixels; ++pixel) {
        const double value = in[(image * channels + channel) * pixels + pixel];
        sum += value;
        squares += value * value;
      }
    }
    const double center = sum / (images * pixels), spread = squares / (images * pixels) - center * center;
    const double factor = scale.data<T>()[channel] / std::sqrt(spread + epsilon);
    for (int64_t image = 0; image < images; ++image) {
      for (int64_t pixel = 0; pixel < pixels; ++pixel) {
        const int64_t place = (image * channels + channel) * pixels + pixel;
        out[place] = static_cast<T>((in[place] - center) * factor + bias.data<T>()[channel]);
      }
    }
    statistics[0][channel] = static_cast<T>(momentum * mean.data<T>()[channel] + (1 - momentum) * center);
    statistics[1][channel] = static_cast<T>(momentum * variance.data<T>()[channel] + (1 - momentum) * spread);
    statistics[2][channel] = static_cast<T>(center);
    statistics[3][channel] = static_cast<T>(1 / std::sqrt(spread + epsilon));
  }
}

}  // namespace

PD_REGISTER_PLUGIN_KERNEL(sync_batch_norm, iluvatar_gpu, ALL_LAYOUT, LocalNorm, float) {}
