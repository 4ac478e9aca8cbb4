export { type GatewayConfig, gatewayConfigSchema } from './config.ts';
export type { GatewayErrorCode } from './errors.ts';
export { type GatewayDeps, startGateway } from './gateway.ts';
export { applyNames, removeNames, showNamesBlock } from './names/hosts-block.ts';
export { readHostsFile, systemHostsFile } from './names/hosts-file.ts';
export { type AddressedHost, assignNames, previewNames } from './names/names.ts';
export type { GatewayProcess } from './process.ts';
