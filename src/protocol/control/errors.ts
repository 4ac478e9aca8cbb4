import { AppError } from '../../runtime/index.ts';

/** Error codes of control links; docs/errors.md has a heading for each. */
export type ControlLinkErrorCode =
  | 'ERR_CONTROL_LINK_DOWN'
  | 'ERR_CONTROL_LINK_TIMEOUT'
  | 'ERR_CONTROL_LINK_REFUSED'
  | 'ERR_CONTROL_LINK_MESSAGE';

/** The node said no. */
export const refused = (code: string, detail: string): AppError<ControlLinkErrorCode> =>
  new AppError('ERR_CONTROL_LINK_REFUSED', `${code}: ${detail}`);

/** Whether a refusal with this HTTP status does not pass by itself. */
export const isFinal = (status: number): boolean => status >= 400 && status < 500 && status !== 429;
