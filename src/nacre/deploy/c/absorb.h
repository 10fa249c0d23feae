/* Logged transitions are absorbed as an episode of them would be. */
static inline void nacre_agent_absorb(
    nacre_session *s, const float *obs, const float *action, float reward, const float *next_obs)
{
    nacre_agent_observe(s, obs, action, reward, next_obs);
}

static inline void nacre_agent_end_absorbing(nacre_session *s, nacre_key key) { nacre_agent_end_episode(s, key); }

