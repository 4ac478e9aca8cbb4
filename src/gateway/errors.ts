/** Codes of errors thrown by src/gateway; each is explained in docs/errors.md. */
export type GatewayErrorCode =
  | 'ERR_GATEWAY_CONFIG'
  | 'ERR_GATEWAY_OFFER'
  | 'ERR_GATEWAY_STATE'
  | 'ERR_HOSTS_BUSY'
  | 'ERR_HOSTS_CONFLICT'
  | 'ERR_HOSTS_DAMAGED'
  | 'ERR_HOSTS_FILE';
