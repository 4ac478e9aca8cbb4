/** Error codes of control links; docs/errors.md has a heading for each. */
export type ControlLinkErrorCode =
  | 'ERR_CONTROL_LINK_DOWN'
  | 'ERR_CONTROL_LINK_TIMEOUT'
  | 'ERR_CONTROL_LINK_REFUSED'
  | 'ERR_CONTROL_LINK_MESSAGE';
