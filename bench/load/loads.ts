import { connect, type Socket } from 'node:net';
import { type Latency, latencyOf } from './latency.ts';
import { isPattern, patternAt } from './pattern.ts';
import { encodeRequest, type LoadRequest, MODE, UPLOAD_ANSWER_BYTES } from './request.ts';

const WRITE_BYTES = 256 * 1024;
const READ_BYTES = 64 * 1024;

export interface BulkCommand {
  readonly load: 'bulk';
  readonly port: number;
  readonly direction: 'up' | 'down';
  readonly streams: number;
  readonly durationMs: number;
}
export interface RequestsCommand {
  readonly load: 'requests';
  readonly port: number;
  readonly connections: number;
  readonly requestBytes: number;
  readonly responseBytes: number;
  readonly durationMs: number;
}
export interface OpensCommand {
  readonly load: 'opens';
  readonly port: number;
  readonly concurrency: number;
  readonly durationMs: number;
}
export interface PacedOpensCommand {
  readonly load: 'paced_opens';
  readonly port: number;
  readonly perSecond: number;
  readonly durationMs: number;
}
export interface PingsCommand {
  readonly load: 'pings';
  readonly port: number;
  readonly uploads: number;
  readonly durationMs: number;
  /** Pause between two pings; default: none. */
  readonly pauseMs?: number;
}
export interface StalledCommand {
  readonly load: 'stalled';
  readonly port: number;
  readonly readers: number;
  /** Streams that are opened, get their first bytes, and are never read again. */
  readonly stalled: number;
  readonly durationMs: number;
}
export interface IdleCommand {
  readonly load: 'idle';
  readonly port: number;
  readonly streams: number;
  /** `open` opens and holds; `check` asks something of every held stream; `close` ends them. */
  readonly step: 'open' | 'check' | 'close';
}
export type LoadCommand =
  | BulkCommand
  | RequestsCommand
  | OpensCommand
  | PacedOpensCommand
  | PingsCommand
  | StalledCommand
  | IdleCommand;

export interface BulkResult {
  readonly bytes: number;
  readonly elapsedMs: number;
  readonly mibPerSecond: number;
}
export interface RateResult {
  readonly perSecond: number;
  readonly failed: number;
  readonly latency: Latency;
}

const MIB = 1024 * 1024;
let seeds = 1;
const nextSeed = (): number => {
  seeds = (seeds + 7919) % 1_000_000;
  return seeds;
};

const requestFor = (mode: LoadRequest['mode'], part: Partial<LoadRequest> = {}): LoadRequest => ({
  mode,
  seed: nextSeed(),
  durationMs: 0,
  requestBytes: 64,
  responseBytes: 64,
  ...part,
});

const opened = (port: number, request: LoadRequest, more: Buffer = Buffer.alloc(0)): Socket => {
  const socket = connect({ port, host: '127.0.0.1', noDelay: true, allowHalfOpen: true });
  socket.write(Buffer.concat([encodeRequest(request), more]));
  return socket;
};

/** Uploads until the deadline; resolves with the bytes that the target confirmed to be right. */
const upload = (port: number, untilMs: number): Promise<number> =>
  new Promise((resolve, reject) => {
    const request = requestFor(MODE.upload);
    const socket = opened(port, request);
    let sent = 0;
    let answer = Buffer.alloc(0);
    const send = (): void => {
      for (;;) {
        if (performance.now() >= untilMs) {
          socket.off('drain', send);
          socket.end();
          return;
        }
        const more = socket.write(patternAt(request.seed + sent, WRITE_BYTES));
        sent += WRITE_BYTES;
        if (!more) return;
      }
    };
    socket.on('drain', send);
    socket.on('data', (chunk) => (answer = Buffer.concat([answer, chunk])));
    socket.on('error', reject);
    socket.on('end', () => {
      if (answer.length !== UPLOAD_ANSWER_BYTES) {
        reject(new Error(`the upload was answered with ${answer.length} bytes`));
      } else if (answer[0] !== 1 || answer.readDoubleBE(1) !== sent) {
        reject(
          new Error(`sent ${sent} bytes, the target saw ${answer.readDoubleBE(1)}, ok=${answer[0] ?? -1}`),
        );
      } else resolve(sent);
    });
    socket.once('connect', send);
  });

interface Reader {
  readonly done: Promise<number>;
  readonly socket: Socket;
}

/** Downloads for a time and verifies. With `stallAfterFirst` it reads one piece, says so, and never again. */
const download = (
  port: number,
  durationMs: number,
  options: { stallAfterFirst?: () => void } = {},
): Reader => {
  const request = requestFor(MODE.download, { durationMs });
  let received = 0;
  let wrong: Error | undefined;
  const socket: Socket = connect({
    port,
    host: '127.0.0.1',
    noDelay: true,
    onread: {
      buffer: Buffer.allocUnsafe(READ_BYTES),
      callback: (size, buffer) => {
        const piece = (buffer as Buffer).subarray(0, size);
        if (!isPattern(piece, request.seed + received)) wrong ??= new Error(`wrong bytes at ${received}`);
        received += size;
        if (options.stallAfterFirst === undefined) return true;
        options.stallAfterFirst();
        return false;
      },
    },
  });
  socket.write(encodeRequest(request));
  const done = new Promise<number>((resolve, reject) => {
    socket.on('error', reject);
    socket.on('end', () => (wrong === undefined ? resolve(received) : reject(wrong)));
    socket.on('close', () => reject(new Error('closed before the end of the download')));
  });
  return { done, socket };
};

const bulkResult = (bytes: number, elapsedMs: number): BulkResult => ({
  bytes,
  elapsedMs,
  mibPerSecond: bytes / MIB / (elapsedMs / 1000),
});

export const bulk = async (command: BulkCommand): Promise<BulkResult> => {
  const start = performance.now();
  const counts = await Promise.all(
    Array.from({ length: command.streams }, () =>
      command.direction === 'up'
        ? upload(command.port, start + command.durationMs)
        : download(command.port, command.durationMs).done,
    ),
  );
  return bulkResult(
    counts.reduce((sum, count) => sum + count, 0),
    performance.now() - start,
  );
};

/** Asks one after another, with a pause if there is one, until the deadline; adds each answer's time to `samplesMs`. */
const askUntil = (
  port: number,
  sizes: { requestBytes: number; responseBytes: number },
  untilMs: number,
  samplesMs: number[],
  pauseMs = 0,
): Promise<void> =>
  new Promise((resolve, reject) => {
    const request = requestFor(MODE.echo, sizes);
    let asked = 0;
    let received = 0;
    let askedAt = performance.now();
    const ask = (): Buffer => {
      askedAt = performance.now();
      const bytes = patternAt(request.seed + asked * sizes.requestBytes, sizes.requestBytes);
      asked += 1;
      return bytes;
    };
    const socket = opened(port, request, ask());
    socket.on('error', reject);
    socket.on('close', () => reject(new Error('closed before the end of the requests')));
    socket.on('data', (chunk) => {
      if (!isPattern(chunk, request.seed + received)) {
        reject(new Error('a wrong answer'));
        return;
      }
      received += chunk.length;
      if (received < asked * sizes.responseBytes) return;
      const now = performance.now();
      samplesMs.push(now - askedAt);
      if (now >= untilMs) socket.end();
      else if (pauseMs === 0) socket.write(ask());
      else setTimeout(() => socket.write(ask()), pauseMs);
    });
    socket.on('end', resolve);
  });

export const requests = async (command: RequestsCommand): Promise<RateResult> => {
  const samplesMs: number[] = [];
  const start = performance.now();
  await Promise.all(
    Array.from({ length: command.connections }, () =>
      askUntil(command.port, command, start + command.durationMs, samplesMs),
    ),
  );
  const perSecond = samplesMs.length / ((performance.now() - start) / 1000);
  return { perSecond, failed: 0, latency: latencyOf(samplesMs) };
};

/** One new stream: connect, ask, answer, FIN each way. Resolves with the time to the answer. */
const openOnce = (port: number): Promise<number> =>
  new Promise((resolve, reject) => {
    const request = requestFor(MODE.echo);
    const start = performance.now();
    const socket = opened(port, request, patternAt(request.seed, request.requestBytes));
    let received = 0;
    let tookMs = Number.NaN;
    socket.on('error', reject);
    socket.on('data', (chunk) => {
      if (!isPattern(chunk, request.seed + received)) reject(new Error('a wrong answer'));
      received += chunk.length;
      if (received < request.responseBytes) return;
      tookMs = performance.now() - start;
      socket.end();
    });
    socket.on('close', () => {
      if (received === request.responseBytes) resolve(tookMs);
      else reject(new Error(`closed after ${received} bytes of the answer`));
    });
  });

export const opens = async (command: OpensCommand): Promise<RateResult> => {
  const samplesMs: number[] = [];
  let failed = 0;
  let firstError: unknown;
  const start = performance.now();
  const untilMs = start + command.durationMs;
  await Promise.all(
    Array.from({ length: command.concurrency }, async () => {
      while (performance.now() < untilMs) {
        try {
          samplesMs.push(await openOnce(command.port));
        } catch (error) {
          failed += 1;
          firstError ??= error;
        }
      }
    }),
  );
  if (samplesMs.length === 0) throw new Error('no stream was opened', { cause: firstError });
  const perSecond = samplesMs.length / ((performance.now() - start) / 1000);
  return { perSecond, failed, latency: latencyOf(samplesMs) };
};

/** Opens at a fixed pace whatever the answers do; a late start counts into the latency. */
export const pacedOpens = (command: PacedOpensCommand): Promise<RateResult> =>
  new Promise((resolve, reject) => {
    const samplesMs: number[] = [];
    const total = Math.round((command.perSecond * command.durationMs) / 1000);
    const start = performance.now();
    let started = 0;
    let ended = 0;
    let failed = 0;
    let firstError: unknown;
    const settle = (): void => {
      ended += 1;
      if (ended < total) return;
      if (samplesMs.length === 0) reject(new Error('no stream was opened', { cause: firstError }));
      const perSecond = samplesMs.length / ((performance.now() - start) / 1000);
      resolve({ perSecond, failed, latency: latencyOf(samplesMs) });
    };
    const tick = setInterval(() => {
      const now = performance.now();
      const due = Math.min(total, Math.floor(((now - start) / 1000) * command.perSecond));
      for (; started < due; started++) {
        const lateMs = now - (start + (started * 1000) / command.perSecond);
        openOnce(command.port).then(
          (tookMs) => {
            samplesMs.push(tookMs + Math.max(0, lateMs - TICK_MS));
            settle();
          },
          (error: unknown) => {
            failed += 1;
            firstError ??= error;
            settle();
          },
        );
      }
      if (started === total) clearInterval(tick);
    }, TICK_MS);
  });
const TICK_MS = 2;

export interface PingResult {
  readonly latency: Latency;
  readonly bulk: BulkResult;
}

export const pings = async (command: PingsCommand): Promise<PingResult> => {
  const samplesMs: number[] = [];
  const start = performance.now();
  const untilMs = start + command.durationMs;
  const uploads = Promise.all(Array.from({ length: command.uploads }, () => upload(command.port, untilMs)));
  const sizes = { requestBytes: 64, responseBytes: 64 };
  await askUntil(command.port, sizes, untilMs - 200, samplesMs, command.pauseMs);
  const counts = await uploads;
  const bytes = counts.reduce((sum, count) => sum + count, 0);
  return { latency: latencyOf(samplesMs), bulk: bulkResult(bytes, performance.now() - start) };
};

/** How long a stalled stream is left to fill every buffer before the others are measured. */
const STALL_FILL_MS = 1_000;

export const stalled = async (command: StalledCommand): Promise<BulkResult> => {
  const stuck: Socket[] = [];
  for (let i = 0; i < command.stalled; i++) {
    await new Promise<void>((resolve, reject) => {
      const reader = download(command.port, 0, { stallAfterFirst: resolve });
      reader.done.catch(reject);
      stuck.push(reader.socket);
    });
  }
  if (command.stalled > 0) await new Promise((resolve) => setTimeout(resolve, STALL_FILL_MS));
  const start = performance.now();
  const counts = await Promise.all(
    Array.from({ length: command.readers }, () => download(command.port, command.durationMs).done),
  );
  const elapsedMs = performance.now() - start;
  for (const socket of stuck) {
    if (socket.destroyed) throw new Error('a stalled stream was cut during the measurement');
    socket.destroy();
  }
  return bulkResult(
    counts.reduce((sum, count) => sum + count, 0),
    elapsedMs,
  );
};

interface HeldStream {
  readonly socket: Socket;
  ask(): Promise<void>;
}
const held: HeldStream[] = [];

const hold = (port: number): Promise<HeldStream> =>
  new Promise((resolve, reject) => {
    const request = requestFor(MODE.echo);
    const socket = connect({ port, host: '127.0.0.1', noDelay: true, allowHalfOpen: true });
    socket.write(encodeRequest(request));
    let position = 0;
    let pending: { resolve: () => void; reject: (error: Error) => void } | undefined;
    const fail = (error: Error): void => {
      pending?.reject(error);
      reject(error);
    };
    socket.on('error', fail);
    socket.on('close', () => fail(new Error('a held stream was closed')));
    socket.on('data', (chunk) => {
      if (!isPattern(chunk, request.seed + position)) fail(new Error('a wrong answer'));
      position += chunk.length;
      if (position % request.responseBytes === 0) pending?.resolve();
    });
    const stream: HeldStream = {
      socket,
      ask: () =>
        new Promise<void>((done, failed) => {
          pending = { resolve: done, reject: failed };
          socket.write(patternAt(request.seed + position, request.requestBytes));
        }),
    };
    const late = setTimeout(() => {
      fail(new Error(`no answer within ${HOLD_DEADLINE_MS} ms`));
      socket.destroy();
    }, HOLD_DEADLINE_MS);
    stream
      .ask()
      .then(() => resolve(stream), reject)
      .finally(() => clearTimeout(late));
  });

/** A tunnel that has run out of something often answers nothing at all. */
const HOLD_DEADLINE_MS = 10_000;

const HOLD_CONCURRENCY = 64;
/** Some tunnels need a time for each stream that grows with their number. */
const HOLD_TOTAL_MS = 20_000;

/** `open` holds as many streams as can be had and stops at the first that fails. */
export const idle = async (command: IdleCommand): Promise<{ streams: number; stoppedBy?: string }> => {
  if (command.step === 'close') {
    for (const { socket } of held) socket.destroy();
    return { streams: held.splice(0).length };
  }
  if (command.step === 'check') {
    for (let i = 0; i < held.length; i += HOLD_CONCURRENCY) {
      await Promise.all(held.slice(i, i + HOLD_CONCURRENCY).map((stream) => stream.ask()));
    }
    return { streams: held.length };
  }
  let wanted = command.streams;
  let stoppedBy: string | undefined;
  const untilMs = performance.now() + HOLD_TOTAL_MS;
  await Promise.all(
    Array.from({ length: HOLD_CONCURRENCY }, async () => {
      while (wanted > 0) {
        if (performance.now() > untilMs) {
          wanted = 0;
          stoppedBy ??= `${HOLD_TOTAL_MS} ms were over`;
          return;
        }
        wanted -= 1;
        try {
          held.push(await hold(command.port));
        } catch (error) {
          wanted = 0;
          stoppedBy ??= error instanceof Error ? error.message : String(error);
        }
      }
    }),
  );
  return { streams: held.length, ...(stoppedBy === undefined ? {} : { stoppedBy }) };
};
