/** Error codes of frames and sessions; docs/errors.md has a heading for each. */
export type SessionErrorCode =
  | 'ERR_SESSION_FRAME_INVALID'
  | 'ERR_SESSION_HELLO_INVALID'
  | 'ERR_SESSION_NOT_OPENABLE';
