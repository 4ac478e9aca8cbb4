export { type AgentDeps, startAgent } from './agent.ts';
export { type AgentConfig, agentConfigSchema } from './config.ts';
export type { AgentErrorCode } from './errors.ts';
export type { AgentProcess } from './process.ts';
