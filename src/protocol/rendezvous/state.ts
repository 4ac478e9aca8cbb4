import type { CloseReason } from '../../runtime/index.ts';
import type { Side } from '../link/offer.ts';

/** How far a rendezvous has come. Nothing leaves `closed`. */
export type RendezvousState =
  /** Both sides were told; neither is here. */
  | { readonly kind: 'offered' }
  /** One side's carrier is here and waits. */
  | { readonly kind: 'half'; readonly here: Side }
  /** Bytes are copied. */
  | { readonly kind: 'joined' }
  | { readonly kind: 'closed'; readonly reason: CloseReason };

export type RendezvousEvent =
  /** A carrier showed that side's token. */
  | { readonly kind: 'arrived'; readonly side: Side }
  /** `OFFER_LIFE_MS` have passed since the offer. */
  | { readonly kind: 'deadline' }
  /** That side's carrier ended, or the side reported that it cannot come; `reason` where it said why. */
  | { readonly kind: 'left'; readonly side: Side; readonly reason?: CloseReason }
  /** Revocation, fence, drain, an administrator: whatever the state, it ends. */
  | { readonly kind: 'cut'; readonly reason: CloseReason };

export const OFFERED: RendezvousState = { kind: 'offered' };

const closed = (reason: CloseReason): RendezvousState => ({ kind: 'closed', reason });

const leftReason = (side: Side): CloseReason => (side === 'agent' ? 'agent_lost' : 'gateway_lost');

const fromOffered = (event: RendezvousEvent): RendezvousState => {
  switch (event.kind) {
    case 'arrived':
      return { kind: 'half', here: event.side };
    case 'deadline':
      return closed('link_failed');
    case 'left':
      return closed(event.reason ?? 'link_failed');
    case 'cut':
      return closed(event.reason);
  }
};

const fromHalf = (here: Side, event: RendezvousEvent): RendezvousState => {
  switch (event.kind) {
    case 'arrived':
      // Each token works once, so the same side cannot come twice; if it does, something replays.
      return event.side === here ? closed('protocol_error') : { kind: 'joined' };
    case 'deadline':
      return closed('link_failed');
    case 'left':
      return closed(event.reason ?? 'link_failed');
    case 'cut':
      return closed(event.reason);
  }
};

const fromJoined = (event: RendezvousEvent): RendezvousState => {
  switch (event.kind) {
    case 'arrived':
      return closed('protocol_error');
    case 'deadline':
      return { kind: 'joined' };
    case 'left':
      return closed(leftReason(event.side));
    case 'cut':
      return closed(event.reason);
  }
};

/** The state after an event; total, so that no order of events is undefined. */
export const advance = (state: RendezvousState, event: RendezvousEvent): RendezvousState => {
  switch (state.kind) {
    case 'offered':
      return fromOffered(event);
    case 'half':
      return fromHalf(state.here, event);
    case 'joined':
      return fromJoined(event);
    case 'closed':
      return state;
  }
};
