/** Error codes of the relay; docs/errors.md has a heading for each. */
export type RelayErrorCode = 'ERR_RELAY_STATE' | 'ERR_RELAY_TLS';
