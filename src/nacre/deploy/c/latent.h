/* ---------------------------------------------------------------------------------------------------------------------
   The agent: MAESN. z is drawn, for every episode, from a Gaussian that adapts to the trial's returns by policy
   gradient */

/* Mean and variance of z, each [NACRE_LATENT_DIM]. */
static inline void nacre_belief(const nacre_session *s, float *mean, float *variance)
{
    int i;
    for (i = 0; i < NACRE_LATENT_DIM; i++) {
        mean[i] = s->state.memory.mean[i];
        variance[i] = expf(2.0f * s->state.memory.log_std[i]);
    }
}

static inline void nacre_agent_begin(nacre_session *s, nacre_key key, const float *task)
{
    uint32_t i;
    (void)task;
    for (i = 0; i < NACRE_LATENT_DIM; i++) s->state.memory.z[i] = nacre_normal(key, i);
}

static inline void nacre_agent_act(nacre_session *s, const float *obs, const nacre_key *key, float *action)
{
    nacre_act_on(s, obs, key, action);
}

static inline void nacre_agent_observe(
    nacre_session *s, const float *obs, const float *action, float reward, const float *next_obs)
{
    nacre_memory *memory = &s->state.memory;
    (void)obs, (void)action, (void)next_obs;
    memory->reward += (float)pow((double)NACRE_DISCOUNT, memory->num_steps) * reward;
    memory->num_steps++;
}

/* log N(z; mean, exp(log_std)). */
static inline float nacre_density(const nacre_memory *memory, const float *z)
{
    float sum = 0.0f;
    int i;
    for (i = 0; i < NACRE_LATENT_DIM; i++) {
        const float error = (z[i] - memory->mean[i]) * expf(-memory->log_std[i]);
        sum += 0.5f * error * error + memory->log_std[i] + 0.918938533f;
    }
    return -sum;
}

/* A step up sum(w A log N(z)) over the kept episodes, A the advantage, w the truncated importance weights over their
   sum, of which the mean and the standard deviation of returns are too. */
static inline void nacre_adapt(nacre_session *s, int number)
{
    const float *mean_rate = s->weights + NACRE_AT_MEAN_RATE, *log_std_rate = s->weights + NACRE_AT_LOG_STD_RATE;
    nacre_memory *memory = &s->state.memory;
    float to_mean[NACRE_LATENT_DIM] = {0}, to_log_std[NACRE_LATENT_DIM] = {0};
    float share[NACRE_KEPT], sum = 0.0f, mean_return = 0.0f, variance = 0.0f;
    int i, j;
    for (j = 0; j < number; j++) {
        const float likelier = nacre_density(memory, memory->past_z[j]) - memory->past_density[j];
        sum += share[j] = expf(fminf(likelier, 0.0f));
    }
    for (j = 0; j < number; j++) {
        share[j] /= fmaxf(sum, 1e-8f);
        mean_return += share[j] * memory->past_return[j];
    }
    for (j = 0; j < number; j++) {
        const float centred = memory->past_return[j] - mean_return;
        variance += share[j] * centred * centred;
    }
    for (j = 0; j < number; j++) {
        const float advantage = (memory->past_return[j] - mean_return) / (sqrtf(variance) + 1e-8f);
        const float weight = share[j] * advantage;
        for (i = 0; i < NACRE_LATENT_DIM; i++) {
            const float narrowness = expf(-memory->log_std[i]);
            const float error = (memory->past_z[j][i] - memory->mean[i]) * narrowness;
            to_mean[i] += weight * error * narrowness;
            to_log_std[i] += weight * (error * error - 1.0f);
        }
    }
    for (i = 0; i < NACRE_LATENT_DIM; i++) {
        const float moved = memory->log_std[i] + log_std_rate[i] * to_log_std[i];
        memory->mean[i] += mean_rate[i] * to_mean[i];
        memory->log_std[i] = nacre_clip(moved, NACRE_LOW_LATENT_LOG_STD, NACRE_HIGH_LATENT_LOG_STD);
    }
}

static inline void nacre_agent_end_episode(nacre_session *s, nacre_key key)
{
    nacre_memory *memory = &s->state.memory;
    const int slot = memory->num_episodes % NACRE_KEPT;
    uint32_t i;
    int step;
    memcpy(memory->past_z[slot], memory->z, sizeof memory->z);
    memory->past_density[slot] = nacre_density(memory, memory->z);
    memory->past_return[slot] = memory->reward;
    memory->num_episodes++;
    memory->num_steps = 0;
    memory->reward = 0.0f;
    memset(memory->mean, 0, sizeof memory->mean);
    memset(memory->log_std, 0, sizeof memory->log_std);
    for (step = 0; step < NACRE_ADAPTATION_STEPS; step++)
        nacre_adapt(s, memory->num_episodes < NACRE_KEPT ? memory->num_episodes : NACRE_KEPT);
    for (i = 0; i < NACRE_LATENT_DIM; i++)
        memory->z[i] = memory->mean[i] + expf(memory->log_std[i]) * nacre_normal(key, i);
}

