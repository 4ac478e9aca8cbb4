/** Codes of this folder; docs/errors.md explains each. */
export type ControlErrorCode =
  | 'ERR_CONTROL_UNAVAILABLE'
  | 'ERR_CONTROL_SCHEMA'
  | 'ERR_CONTROL_KEYRING'
  | 'ERR_CONTROL_STATE'
  | 'ERR_CONTROL_NOT_FOUND'
  | 'ERR_CONTROL_EXISTS'
  | 'ERR_CONTROL_CONFLICT'
  | 'ERR_CONTROL_INVALID'
  | 'ERR_CONTROL_LISTEN';
