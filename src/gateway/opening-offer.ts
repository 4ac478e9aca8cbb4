import { AppError, type Clock, type CloseReason, isCloseReason, sleep } from '../runtime/index.ts';
import type { GatewayErrorCode } from './errors.ts';

/** How long the node's word on a carrier that it reset is waited for: they come over two connections. */
export const OFFER_WORD_MS = 250;

/** The node ended an offer before there was a link, and said why: in most cases because the agent refused it. */
export class OfferEndedError extends AppError<GatewayErrorCode> {
  readonly reason: CloseReason;

  constructor(reason: CloseReason) {
    super('ERR_GATEWAY_OFFER', `the offer of a data link ended: ${reason}`, { retryable: true });
    this.reason = reason;
  }
}

/** An offer whose link is being opened. */
export class OpeningOffer {
  readonly #told = new AbortController();
  #reason: CloseReason | undefined;

  /** Aborts when the node says that the offer has ended. */
  get signal(): AbortSignal {
    return this.#told.signal;
  }

  /** The node's `link.closed`. */
  onClosedNotice(text: string): void {
    this.#reason ??= isCloseReason(text) ? text : 'internal';
    this.#told.abort(new Error('the offer has ended'));
  }

  /** What the node says of the end, waited for at most `OFFER_WORD_MS`; undefined when nothing that explains it. Never rejects. */
  async endReason(clock: Clock): Promise<CloseReason | undefined> {
    if (this.#reason === undefined)
      await sleep(clock, OFFER_WORD_MS, this.#told.signal).catch(() => undefined);
    return this.#reason === 'link_failed' ? undefined : this.#reason;
  }
}
