import { AppError, type AppErrorOptions, type CloseReason } from '../../runtime/index.ts';

export type LinkErrorCode =
  | 'ERR_LINK_NODE'
  | 'ERR_LINK_DIAL'
  | 'ERR_LINK_TLS'
  | 'ERR_LINK_PIN'
  | 'ERR_LINK_HELLO'
  | 'ERR_LINK_TIMEOUT'
  | 'ERR_LINK_LOST';

/** The step of opening a data link that failed; told to the relay in `link.failed`. */
export type LinkStep = 'dial' | 'tls' | 'pin' | 'hello';

/** A data link that did not come up. */
export class LinkError extends AppError<LinkErrorCode> {
  readonly step: LinkStep;
  readonly reason: CloseReason;

  constructor(
    code: LinkErrorCode,
    step: LinkStep,
    reason: CloseReason,
    message: string,
    options: AppErrorOptions = {},
  ) {
    super(code, message, options);
    this.step = step;
    this.reason = reason;
  }
}
