/** Codes of the management commands; docs/errors.md explains each. */
export type ManageErrorCode =
  | 'ERR_MANAGE_USAGE'
  | 'ERR_MANAGE_INVALID'
  | 'ERR_MANAGE_REFUSED'
  | 'ERR_MANAGE_UNAVAILABLE';
