#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#pragma GCC target("avx2,fma")
#define KERNEL(name) name##_avx2
#include "attend_body.h"
#endif
