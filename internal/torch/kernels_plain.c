#define KERNEL(name) name##_plain
#include "kernels_body.h"
