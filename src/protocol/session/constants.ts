import type { HelloLimits } from './types.ts';

/** Frame types of `sallyport.v1`; numbers are wire format. */
export const FRAME = {
  HELLO: 1,
  OPEN: 2,
  ACCEPT: 3,
  REFUSE: 4,
  DATA: 5,
  CREDIT: 6,
  BLOCKED: 7,
  RESET: 8,
  PING: 9,
  PONG: 10,
  GOAWAY: 11,
} as const;

/** Flag of DATA (its last byte ends the direction) and of CREDIT (FIN was delivered). */
export const FLAG_FIN = 0x01;
/** Flag of REFUSE: another agent may be tried once. */
export const FLAG_MOVABLE = 0x01;

export const HEADER_BYTES = 16;
/** Header and payload together: four full TLS records. */
export const MAX_FRAME_BYTES = 65_536;
export const MAX_PAYLOAD_BYTES = MAX_FRAME_BYTES - HEADER_BYTES;
/** Longest payload of HELLO; it holds names and limits only. */
export const MAX_HELLO_BYTES = 8 * 1024;
/** Longest payload of ACCEPT, REFUSE and GOAWAY. */
export const MAX_ANSWER_BYTES = 4 * 1024;

/** Receive window at the start of a stream. */
export const INITIAL_WINDOW_BYTES = 256 * 1024;
/** Where autotuning stops, for one stream. */
export const MAX_WINDOW_BYTES = 16 * 1024 * 1024;
/**
 * What one stream's window should carry over the link's least round trip, and the least cap that follows from
 * it. A window beyond that adds no throughput and fills the buffers on the way, where nothing can be overtaken.
 */
export const WINDOW_BYTES_PER_SECOND = 200 * 1024 * 1024;
export const MIN_WINDOW_CAP_BYTES = 1024 * 1024;
/** Sum of what windows may grow beyond their start, over one link and over the process. */
export const LINK_GROWTH_BYTES = 64 * 1024 * 1024;
export const PROCESS_GROWTH_BYTES = 256 * 1024 * 1024;
/** Early data per stream that an agent holds before it has decided. */
export const EARLY_BYTES = 16 * 1024;

/**
 * A source is paused when this much of it waits to be sent, until it is less at the end of a loop turn. Node would
 * read a busy socket up to 32 times in a turn, 2 MiB, and nobody else would be heard; pausing after every read costs
 * two system calls each.
 */
export const SEND_QUEUE_BYTES = 256 * 1024;
/** Most that one write hands to the link, and so the most that waits in the link socket's own queue. */
export const FLUSH_BYTES = 256 * 1024;
/** The same on a link whose last write took longer than `SLOW_WRITE_MS`. */
export const SLOW_FLUSH_BYTES = 16 * 1024;
export const SLOW_WRITE_MS = 500;
/** A stream with at most this much waiting is served ahead of bulk. */
export const SMALL_QUEUE_BYTES = 4 * 1024;
/** A destination is written to within the turn once this much is waiting for it. */
export const DELIVER_BYTES = 128 * 1024;

/** Liveness, protocol.md "Liveness". */
export const PING_EVERY_MS = 10_000;
export const CHECK_EVERY_MS = 5_000;
export const DEAD_AFTER_MS = 30_000;
export const DEAD_AFTER_BUSY_MS = 120_000;

/** How long two FINs may wait for their acknowledgement without progress; longer than any round trip lives. */
export const LINGER_IDLE_MS = DEAD_AFTER_BUSY_MS + DEAD_AFTER_MS;
/** How long a stream may wait for credit. */
export const BLOCKED_TIMEOUT_MS = 60 * 60_000;
/** How long the last frames may take to leave before a link is destroyed. */
export const LAST_WORDS_MS = 1_000;

/** Answers to PINGs waiting to be sent. */
export const MAX_PENDING_PONGS = 64;
/** Queued OPEN, ACCEPT and REFUSE frames. */
export const MAX_QUEUED_MESSAGES = 32 * 1024;
/** Frames that change nothing (stale CREDIT, PING, frames of ended streams): burst, and refill a second. */
export const IDLE_FRAMES_BURST = 65_536;
export const IDLE_FRAMES_PER_SECOND = 4_096;
/** `OPEN.id`s remembered. */
export const RECENT_IDS = 65_536;
/** Highest stream number; a session that reaches it opens no more. */
export const MAX_STREAM_NUMBER = 0xffff_ffff;

/** What this build announces in HELLO. */
export const SESSION_LIMITS: HelloLimits = {
  frame: MAX_FRAME_BYTES,
  window: INITIAL_WINDOW_BYTES,
  streams: 16_384,
  early: EARLY_BYTES,
  meta: 4 * 1024,
};
