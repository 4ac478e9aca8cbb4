import type { GatewayLink } from './gateway-link.ts';

/** A link with this round trip and this many streams waiting for it gets another beside it. */
const SLOW_RTT_MS = 10;
const SLOW_WAITING_STREAMS = 2;
/** A link without a stream for this long is closed. */
const IDLE_LINK_MS = 5 * 60 * 1_000;
/** A link is replaced at this age or volume: nothing rekeys AES-GCM by itself (protocol.md, Rendezvous). */
const MAX_LINK_AGE_MS = 24 * 60 * 60 * 1_000;
const MAX_LINK_BYTES = 256 * 1024 ** 3;

/** What a link is due for, seen by itself: an old one to be replaced, an idle one closed, a slow one relieved. */
export const linkCare = (
  link: Pick<GatewayLink, 'stats' | 'openedMs' | 'idleMs'>,
  nowMs: number,
): 'replace' | 'close' | 'relieve' | undefined => {
  const { bytesIn, bytesOut, rttMs, waiting } = link.stats();
  if (nowMs - link.openedMs >= MAX_LINK_AGE_MS || Math.max(bytesIn, bytesOut) >= MAX_LINK_BYTES) {
    return 'replace';
  }
  if (link.idleMs() >= IDLE_LINK_MS) return 'close';
  return (rttMs ?? 0) >= SLOW_RTT_MS && waiting >= SLOW_WAITING_STREAMS ? 'relieve' : undefined;
};
