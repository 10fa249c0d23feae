     static float weights[NACRE_NUM_FLOATS];             all of weights.bin, little-endian floats
     static nacre_session session;
     float action[NACRE_ACTION_DIM];
     if (nacre_check(weights, NACRE_NUM_FLOATS) != NACRE_OK) stop();
     nacre_begin(&session, weights, 0, NULL);            seed; a trial begins
     nacre_act(&session, obs, action);                   in [-1, 1]
     nacre_observe(&session, next_obs, reward, NULL);    what the action led to
     nacre_end_episode(&session);                        the next episode uses what was learnt of the task

   Everything is static: one program may have several policies, each in a file of its own. Compile without -ffast-math:
   it takes the checks of numbers that are not finite away. */

#ifndef NACRE_POLICY_H
#define NACRE_POLICY_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

