export { type GatewayConfig, gatewayConfigSchema } from './config.ts';
export type { GatewayErrorCode } from './errors.ts';
export { type GatewayDeps, startGateway } from './gateway.ts';
export type { GatewayEntrance, GatewayProcess } from './process.ts';
