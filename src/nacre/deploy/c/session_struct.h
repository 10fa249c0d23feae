/* ---------------------------------------------------------------------------------------------------------------------
   A trial: one step at a time */

/* All that is known between two steps: copy it, or write its bytes to a file, and resume from them after a restart. */
typedef struct {
    nacre_key act_key, end_key;
    uint32_t num_steps;
    int32_t num_episodes, num_absorbed;
    nacre_memory memory;
} nacre_state;

typedef struct {
    const float *weights;
    nacre_state state;
    int has_acted;
    float obs[NACRE_OBS_DIM], action[NACRE_ACTION_DIM];
    float x[NACRE_WIDTH], y[NACRE_WIDTH]; /* room for what layers give */
#if NACRE_UNITS
    float seen[NACRE_GATES], kept[NACRE_GATES];
#endif
} nacre_session;

/* ---------------------------------------------------------------------------------------------------------------------
   The policy: a Gaussian over actions */

enum { NACRE_TANH, NACRE_CLIPPED, NACRE_GAUSSIAN };

/* The mean action for the inputs in x, or with a key a sample. */
static inline void nacre_policy_act(nacre_session *s, const nacre_key *key, float *action)
{
    const int all = key != NULL && NACRE_HEAD != NACRE_GAUSSIAN;
    const float *mean = nacre_run(s->weights, &nacre_policy, (1 + all) * NACRE_ACTION_DIM, s->x, s->y);
    const float *log_std = NACRE_HEAD == NACRE_GAUSSIAN ? s->weights + NACRE_AT_LOG_STD : mean + NACRE_ACTION_DIM;
    uint32_t i;
    for (i = 0; i < NACRE_ACTION_DIM; i++) {
        const float low = NACRE_LOW_LOG_STD, high = NACRE_HIGH_LOG_STD, noise = key ? nacre_normal(*key, i) : 0.0f;
        if (NACRE_HEAD == NACRE_GAUSSIAN)
            action[i] = key ? mean[i] + expf(log_std[i]) * noise : mean[i];
        else if (!key)
            action[i] = tanhf(mean[i]);
        else if (NACRE_HEAD == NACRE_TANH)
            action[i] = tanhf(mean[i] + expf(nacre_clip(log_std[i], low, high)) * noise);
        else {
            const float scale = low + 0.5f * (high - low) * (tanhf(log_std[i]) + 1.0f);
            action[i] = nacre_clip(tanhf(mean[i]) + expf(scale) * noise, -1.0f, 1.0f);
        }
    }
}

/* The same for an observation, and z beside it. */
static inline void nacre_act_on(nacre_session *s, const float *obs, const nacre_key *key, float *action)
{
    memcpy(s->x, obs, NACRE_OBS_DIM * sizeof(float));
#if NACRE_LATENT_DIM
    memcpy(s->x + NACRE_OBS_DIM, s->state.memory.z, sizeof s->state.memory.z);
#endif
    nacre_policy_act(s, key, action);
}

