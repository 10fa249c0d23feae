/* Replays the trial that was recorded at export, and tells how long a step takes (POSIX):

     cc -std=c99 -O3 -march=native policy_test.c -o policy_test -lm && ./policy_test [weights.bin] */

#define _POSIX_C_SOURCE 199309L
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "policy.h"

