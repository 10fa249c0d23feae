/* ---------------------------------------------------------------------------------------------------------------------
   The agent: a policy that learns nothing of the task, but what it may be told of it */

static inline void nacre_agent_begin(nacre_session *s, nacre_key key, const float *task)
{
    (void)key;
#if NACRE_LATENT_DIM
    memcpy(s->state.memory.z, task, sizeof s->state.memory.z);
#else
    (void)s, (void)task;
#endif
}

static inline void nacre_agent_act(nacre_session *s, const float *obs, const nacre_key *key, float *action)
{
    nacre_act_on(s, obs, key, action);
}

static inline void nacre_agent_observe(
    nacre_session *s, const float *obs, const float *action, float reward, const float *next_obs)
{
    (void)s, (void)obs, (void)action, (void)reward, (void)next_obs;
}

static inline void nacre_agent_end_episode(nacre_session *s, nacre_key key)
{
    (void)key;
    s->state.memory.num_episodes++;
}

