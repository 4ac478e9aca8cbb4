/** Codes of errors thrown by src/agent; each is explained in docs/errors.md. */
export type AgentErrorCode =
  | 'ERR_AGENT_ASKED'
  | 'ERR_AGENT_BUNDLE_SOURCE'
  | 'ERR_AGENT_CONFIG'
  | 'ERR_AGENT_MANAGED'
  | 'ERR_AGENT_STATE'
  | 'ERR_AGENT_STATUS_REPORT';
