export { askToActivate } from './activate-requests.ts';
export { type AgentDeps, startAgent } from './agent.ts';
export { type AgentConfig, agentConfigSchema } from './config.ts';
export type { AgentErrorCode } from './errors.ts';
export { askToForget } from './forget-requests.ts';
export type { AgentProcess } from './process.ts';
export { type KeptRevocation, revokedIdOf, RevocationSet } from './revocations.ts';
