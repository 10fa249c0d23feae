/* ---------------------------------------------------------------------------------------------------------------------
   What a program calls. Each returns NACRE_OK, or says what is wrong and changes nothing */

enum { NACRE_OK, NACRE_NOT_FINITE, NACRE_NOT_ACTED, NACRE_NO_TASK, NACRE_NO_LOGS, NACRE_WRONG_WEIGHTS, NACRE_OUT_OF_RANGE };

static inline int nacre_are_finite(const float *values, int number)
{
    int i;
    for (i = 0; i < number; i++)
        if (!(fabsf(values[i]) <= 3e38f)) return 0;
    return 1;
}

/* Whether these numbers of actions lie in [-1, 1], up to rounding. */
static inline int nacre_are_actions(const float *values, int number)
{
    int i;
    for (i = 0; i < number; i++)
        if (!(fabsf(values[i]) <= 1.0001f)) return 0;
    return 1;
}

/* Whether these are the weights that this file was written with, all of weights.bin: by their number and Adler-32. */
static inline int nacre_check(const float *weights, size_t num_floats)
{
    uint32_t a = 1, b = 0, stored[2];
    unsigned char bytes[sizeof(float)];
    size_t i, j;
    if (num_floats != NACRE_NUM_FLOATS) return NACRE_WRONG_WEIGHTS;
    for (i = NACRE_HEAD_FLOATS; i < num_floats; i++) {
        memcpy(bytes, weights + i, sizeof bytes);
        for (j = 0; j < sizeof bytes; j++) {
            a = (a + bytes[j]) % 65521u;
            b = (b + a) % 65521u;
        }
    }
    memcpy(stored, weights + 2, sizeof stored); /* behind eight bytes of name */
    if (stored[0] != NACRE_NUM_FLOATS || stored[1] != NACRE_CHECKSUM) return NACRE_WRONG_WEIGHTS;
    return (b << 16 | a) == NACRE_CHECKSUM ? NACRE_OK : NACRE_WRONG_WEIGHTS;
}

/* A new trial, of which nothing is known. `weights`: all of weights.bin, which must stay there. `task`: what an oracle
   is told, [NACRE_TASK_DIM]; otherwise NULL. */
static inline int nacre_begin(nacre_session *s, const float *weights, uint32_t seed, const float *task)
{
    nacre_key key;
    if (NACRE_TASK_DIM > 0 && (task == NULL || !nacre_are_finite(task, NACRE_TASK_DIM))) return NACRE_NO_TASK;
    memset(s, 0, sizeof *s);
    key.a = 0;
    key.b = seed;
    s->weights = weights;
    s->state.act_key = nacre_fold_in(key, 1);
    s->state.end_key = nacre_fold_in(key, 2);
    nacre_agent_begin(s, nacre_fold_in(key, 0), task);
    return NACRE_OK;
}

/* The action [NACRE_ACTION_DIM] in [-1, 1] for an observation [NACRE_OBS_DIM]. */
static inline int nacre_act(nacre_session *s, const float *obs, float *action)
{
    const int is_sampled = NACRE_SAMPLED < 0 || s->state.num_episodes < NACRE_SAMPLED;
    nacre_key key;
    int i;
    if (NACRE_ABSORBS && s->state.num_absorbed == 0) return NACRE_NO_LOGS;
    if (!nacre_are_finite(obs, NACRE_OBS_DIM)) return NACRE_NOT_FINITE;
    memcpy(s->obs, obs, sizeof s->obs);
    key = is_sampled ? nacre_fold_in(s->state.act_key, s->state.num_steps) : s->state.act_key;
    nacre_agent_act(s, s->obs, is_sampled ? &key : NULL, s->action);
    s->has_acted = 1;
    for (i = 0; i < NACRE_ACTION_DIM; i++) action[i] = nacre_clip(s->action[i], -1.0f, 1.0f);
    return NACRE_OK;
}

/* What the last action led to. `carried_out` [NACRE_ACTION_DIM]: what the robot did, where that is something else;
   otherwise NULL. */
static inline int nacre_observe(nacre_session *s, const float *next_obs, float reward, const float *carried_out)
{
    if (!s->has_acted) return NACRE_NOT_ACTED;
    if (!nacre_are_finite(next_obs, NACRE_OBS_DIM) || !nacre_are_finite(&reward, 1)) return NACRE_NOT_FINITE;
    if (carried_out != NULL) {
        if (!nacre_are_finite(carried_out, NACRE_ACTION_DIM)) return NACRE_NOT_FINITE;
        if (!nacre_are_actions(carried_out, NACRE_ACTION_DIM)) return NACRE_OUT_OF_RANGE;
        memcpy(s->action, carried_out, sizeof s->action);
    }
    nacre_agent_observe(s, s->obs, s->action, reward, next_obs);
    s->state.num_steps++;
    s->has_acted = 0;
    return NACRE_OK;
}

/* Settles what the next episode acts on. */
static inline int nacre_end_episode(nacre_session *s)
{
    nacre_agent_end_episode(s, nacre_fold_in(s->state.end_key, (uint32_t)s->state.num_episodes));
    s->state.num_episodes++;
    s->has_acted = 0;
    return NACRE_OK;
}

/* Logged transitions of the task, row by row and all at once, before the first act: where NACRE_ABSORBS. */
static inline int nacre_absorb(
    nacre_session *s, const float *obs, const float *action, const float *reward, const float *next_obs, int number)
{
    int i;
    if (!NACRE_ABSORBS || s->state.num_absorbed || s->state.num_steps || s->state.num_episodes) return NACRE_NO_LOGS;
    if (number <= 0) return NACRE_NO_LOGS;
    if (!nacre_are_finite(obs, number * NACRE_OBS_DIM) || !nacre_are_finite(action, number * NACRE_ACTION_DIM) ||
        !nacre_are_finite(reward, number) || !nacre_are_finite(next_obs, number * NACRE_OBS_DIM))
        return NACRE_NOT_FINITE;
    if (!nacre_are_actions(action, number * NACRE_ACTION_DIM)) return NACRE_OUT_OF_RANGE;
    for (i = 0; i < number; i++)
        nacre_agent_absorb(s, obs + i * NACRE_OBS_DIM, action + i * NACRE_ACTION_DIM, reward[i], next_obs + i * NACRE_OBS_DIM);
    nacre_agent_end_absorbing(s, nacre_fold_in(s->state.end_key, 2147483647u));
    s->state.num_absorbed = number;
    return NACRE_OK;
}

#endif
