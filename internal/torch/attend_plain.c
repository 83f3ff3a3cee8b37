#define KERNEL(name) name##_plain
#include "attend_body.h"
