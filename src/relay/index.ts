export { type RelayConfig, relayConfigSchema } from './config.ts';
export type { RelayErrorCode } from './errors.ts';
export { type RelayDeps, type RelayProcess, startRelay } from './start.ts';
