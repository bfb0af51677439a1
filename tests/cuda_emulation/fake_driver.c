// A libcuda.so.1 that knows its version and nothing else, for tests of what PyHBT says about drivers.
#include <stdlib.h>
#include <string.h>

static int version(void) { return atoi(getenv("FAKE_DRIVER_VERSION")); }

int cuInit(unsigned flags) {
  (void)flags;
  return 100;  // CUDA_ERROR_NO_DEVICE
}
int cuDriverGetVersion(int* out) {
  *out = version();
  return 0;
}
int cuGetProcAddress_v2(const char* symbol, void** address, int wanted, unsigned long long flags, void* status) {
  (void)wanted, (void)flags, (void)status;
  *address = NULL;
  if (strcmp(symbol, "cuInit") == 0) *address = (void*)cuInit;
  if (strcmp(symbol, "cuDriverGetVersion") == 0) *address = (void*)cuDriverGetVersion;
  if (strcmp(symbol, "cuGetProcAddress") == 0) *address = (void*)cuGetProcAddress_v2;
  return *address == NULL ? 500 : 0;  // CUDA_ERROR_NOT_FOUND
}
int cuGetProcAddress(const char* symbol, void** address, int wanted, unsigned long long flags) {
  return cuGetProcAddress_v2(symbol, address, wanted, flags, NULL);
}
