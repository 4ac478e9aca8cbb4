import { connect, createServer, type Server, type Socket } from 'node:net';
import { createHash } from 'node:crypto';
import { type Clock, foreignCodeOf, type HostPort, messageOf } from '../../runtime/index.ts';

/** How an application sees one connection attempt end. */
export interface ProbeResult {
  /** `open`: still open when the probe had seen enough. */
  readonly outcome: 'open' | 'reset' | 'closed' | 'refused' | 'timeout' | 'error';
  readonly ms: number;
  readonly detail: string;
}

/**
 * Connects as an application would and waits for what becomes of it: a refused stream is reset at once, an allowed
 * one stays open (or the target speaks first).
 */
export const probe = (address: HostPort, patienceMs: number, clock: Clock): Promise<ProbeResult> =>
  new Promise((resolve) => {
    const startedMs = clock.monotonicMs();
    const socket = connect({ host: address.host, port: address.port });
    const finish = (outcome: ProbeResult['outcome'], detail: string): void => {
      patience.cancel();
      socket.removeAllListeners();
      socket.on('error', () => undefined);
      socket.destroy();
      resolve({ outcome, ms: clock.monotonicMs() - startedMs, detail });
    };
    const patience = clock.after(patienceMs, () =>
      finish(socket.connecting ? 'timeout' : 'open', socket.connecting ? 'no answer' : 'still open'),
    );
    socket.once('data', () => finish('open', 'the target spoke'));
    socket.once('end', () => finish('closed', 'closed without a byte'));
    socket.once('error', (error) => {
      const code = foreignCodeOf(error);
      if (code === 'ECONNRESET' || code === 'EPIPE') finish('reset', 'reset');
      else if (code === 'ECONNREFUSED') finish('refused', 'nobody listens there');
      else finish('error', messageOf(error));
    });
  });

/** A target of our own: reads until the client's FIN, then answers with the digest of all it read, and ends. */
export interface EchoTarget {
  readonly port: number;
  close(): Promise<void>;
}

const DIGEST_COMMAND = 0x44;

/**
 * Starts the target. The first byte chooses: `D` digests until FIN and answers then; anything else is echoed at
 * once, for as long as the client sends.
 */
export const startEchoTarget = (): Promise<EchoTarget> =>
  new Promise((resolve, reject) => {
    const sockets = new Set<Socket>();
    const server: Server = createServer({ allowHalfOpen: true }, (socket) => {
      sockets.add(socket);
      socket.on('close', () => sockets.delete(socket));
      socket.on('error', () => undefined);
      const hash = createHash('sha256');
      let digests: boolean | undefined;
      socket.on('data', (chunk: Buffer) => {
        digests ??= chunk[0] === DIGEST_COMMAND;
        if (digests) hash.update(chunk);
        else socket.write(chunk);
      });
      socket.on('end', () => {
        if (digests === true) socket.end(hash.digest('hex'));
        else socket.end();
      });
    });
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      resolve({
        port: typeof address === 'object' && address !== null ? address.port : 0,
        close: () =>
          new Promise((closed) => {
            for (const socket of sockets) socket.destroy();
            server.close(() => closed());
          }),
      });
    });
  });

/**
 * Sends bytes and FIN, and only then reads: the answer can be right only when FIN was carried as FIN and the other
 * direction stayed open.
 * @throws Error with what went wrong
 */
export const digestThroughHalfClose = (
  address: HostPort,
  bytes: Buffer,
  patienceMs: number,
): Promise<string> =>
  new Promise((resolve, reject) => {
    const socket = connect({ host: address.host, port: address.port, allowHalfOpen: true });
    const answer: Buffer[] = [];
    socket.setTimeout(patienceMs, () => socket.destroy(new Error(`no answer within ${patienceMs} ms`)));
    socket.on('error', reject);
    socket.on('data', (chunk: Buffer) => answer.push(chunk));
    socket.on('end', () => {
      socket.destroy();
      resolve(Buffer.concat(answer).toString('latin1'));
    });
    socket.end(Buffer.concat([Buffer.from([DIGEST_COMMAND]), bytes]));
  });

/** What `digestThroughHalfClose` must return for these bytes. */
export const expectedDigest = (bytes: Buffer): string =>
  createHash('sha256')
    .update(Buffer.from([DIGEST_COMMAND]))
    .update(bytes)
    .digest('hex');

/** A stream that is held open with data moving on it. */
export interface HeldStream {
  /** Resolves when it ends, with how and when (monotonic milliseconds). */
  readonly ended: Promise<{ reset: boolean; atMs: number }>;
  close(): void;
}

/** Opens an echo stream and keeps bytes moving. Resolves when the first echo has come back. */
export const holdStream = (address: HostPort, patienceMs: number, clock: Clock): Promise<HeldStream> =>
  new Promise((resolve, reject) => {
    const socket = connect({ host: address.host, port: address.port });
    const beat = Buffer.alloc(1024, 'x');
    let reset = false;
    const patience = clock.after(patienceMs, () =>
      socket.destroy(new Error(`no echo within ${patienceMs} ms`)),
    );
    const ended = new Promise<{ reset: boolean; atMs: number }>((end) => {
      socket.on('close', () => end({ reset, atMs: clock.monotonicMs() }));
    });
    socket.on('error', (error) => {
      reset ||= foreignCodeOf(error) === 'ECONNRESET' || foreignCodeOf(error) === 'EPIPE';
      patience.cancel();
      reject(error);
    });
    socket.once('data', () => {
      patience.cancel();
      resolve({ ended, close: () => socket.destroy() });
    });
    socket.on('data', (chunk: Buffer) => {
      socket.write(chunk);
    });
    socket.on('end', () => {
      patience.cancel();
      reject(new Error('the stream ended before an echo came back'));
    });
    socket.write(beat);
  });
