import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { Duplex } from 'node:stream';
import type { TestContext } from 'node:test';
import { connect as connectTls, TLSSocket } from 'node:tls';
import { FRAME, SESSION_LIMITS } from '../../../src/protocol/session/constants.ts';
import { encodeFrame, writeValue } from '../../../src/protocol/session/frame-header.ts';
import { FrameReader } from '../../../src/protocol/session/frame-reader.ts';
import { encodeOpen } from '../../../src/protocol/session/messages.ts';
import { SessionCore } from '../../../src/protocol/session/session-core.ts';
import type {
  Hello,
  HelloLimits,
  IncomingOpen,
  OpenMeta,
  Refusal,
  SessionOptions,
  SessionStream,
  StreamEnd,
} from '../../../src/protocol/session/types.ts';
import { type Clock, createLinkCertificate, systemClock, uuidv7 } from '../../../src/runtime/index.ts';

export const NO_BYTES = Buffer.alloc(0);

export const helloOf = (role: 'gateway' | 'agent', limits: Partial<HelloLimits> = {}): Hello => ({
  v: 1,
  role,
  namespace: 'relay.example.com',
  connection: 'orders',
  link_id: '01890a5d-ac96-774b-bcce-b302099a8057',
  name: `${role}-1`,
  instance: 'i1',
  session_id: 's1',
  epoch: 0,
  secret: 'x',
  limits: { ...SESSION_LIMITS, ...limits },
  features: [],
  build: 'test',
});

export const metaOf = (over: Partial<OpenMeta> = {}): OpenMeta => ({
  id: uuidv7(systemClock),
  attempt: 1,
  kind: 'tcp',
  claimed: { address: '127.0.0.1', port: 1234 },
  ext: {},
  ...over,
});

/** Waits for the end of the loop turn, `turns` times. */
export const turns = async (count = 1): Promise<void> => {
  for (let i = 0; i < count; i += 1) await new Promise((resolve) => setImmediate(resolve));
};

const DEADLINE_MS = 10_000;

/** Waits until the condition holds; fails after `DEADLINE_MS`. */
export const until = async (condition: () => boolean): Promise<void> => {
  const deadlineMs = performance.now() + DEADLINE_MS;
  while (!condition()) {
    if (performance.now() > deadlineMs)
      throw new Error(`not within ${DEADLINE_MS} ms: ${condition.toString()}`);
    await turns();
  }
};

/** Repeatable content: byte i of the sequence that starts at `from`. */
export const pattern = (length: number, from = 0): Buffer => {
  const bytes = Buffer.allocUnsafe(length);
  for (let i = 0; i < length; i += 1) bytes[i] = ((from + i) * 31 + ((from + i) >>> 8)) & 0xff;
  return bytes;
};

/** A real TCP connection: `near` is what a session is given, `far` the application or the target. */
export const tcpPair = async (t: TestContext): Promise<{ near: Socket; far: Socket }> => {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const accepted = once(server, 'connection');
  const far = connect({
    port: (server.address() as AddressInfo).port,
    host: '127.0.0.1',
    allowHalfOpen: true,
  });
  far.on('error', () => undefined);
  await once(far, 'connect');
  const [near] = (await accepted) as [Socket];
  server.close();
  t.after(() => {
    near.destroy();
    far.destroy();
  });
  return { near, far };
};

/** How one direction of a link carries what it is given. */
export type Carry = (chunk: Buffer, deliver: (piece: Buffer) => void, taken: () => void) => void;

export const atOnce: Carry = (chunk, deliver, taken) => {
  deliver(Buffer.from(chunk));
  setImmediate(taken);
};

/** Accepts and delivers one byte at a time, 64 of them a loop turn. */
export const oneByte: Carry = (chunk, deliver, taken) => {
  const copy = Buffer.from(chunk);
  let at = 0;
  const step = (): void => {
    for (let i = 0; i < 64 && at < copy.length; i += 1, at += 1) deliver(copy.subarray(at, at + 1));
    if (at < copy.length) setImmediate(step);
    else taken();
  };
  step();
};

export const delayed =
  (clock: Clock, delayMs: number): Carry =>
  (chunk, deliver, taken) => {
    const copy = Buffer.from(chunk);
    clock.after(delayMs, () => deliver(copy));
    setImmediate(taken);
  };

/** Takes nothing until told. */
export class Gate {
  #held: (() => void)[] = [];
  isOpen = false;
  readonly carry: Carry = (chunk, deliver, taken) => {
    const copy = Buffer.from(chunk);
    const pass = (): void => {
      deliver(copy);
      taken();
    };
    if (this.isOpen) setImmediate(pass);
    else this.#held.push(pass);
  };

  get holding(): boolean {
    return this.#held.length > 0;
  }

  /** Takes what it holds. */
  pass(): void {
    for (const call of this.#held.splice(0)) call();
  }

  open(): void {
    this.isOpen = true;
    this.pass();
  }
}

class LinkEnd extends Duplex {
  other: LinkEnd | undefined;
  readonly #carry: Carry;

  constructor(carry: Carry) {
    super({ allowHalfOpen: false });
    this.#carry = carry;
    this.on('error', () => undefined);
  }

  override _read(): void {
    // Pushed by the other end.
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, taken: () => void): void {
    this.#carry(
      chunk,
      (piece) => {
        if (this.other !== undefined && !this.other.destroyed) this.other.push(piece);
      },
      taken,
    );
  }

  override _final(done: () => void): void {
    if (this.other !== undefined && !this.other.destroyed) this.other.push(null);
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    const other = this.other;
    if (other !== undefined && !other.destroyed) setImmediate(() => other.destroy());
    done(error);
  }
}

/** Two ends of a link in memory; `left` carries what the left end writes. */
export const linkPair = (left: Carry = atOnce, right: Carry = atOnce): { left: Duplex; right: Duplex } => {
  const ends = { left: new LinkEnd(left), right: new LinkEnd(right) };
  ends.left.other = ends.right;
  ends.right.other = ends.left;
  return ends;
};

/** A link as it is in life: TLS 1.3 over TCP. */
export const tlsPair = async (t: TestContext): Promise<{ left: TLSSocket; right: TLSSocket }> => {
  const { certPem, keyPem } = await createLinkCertificate('test', systemClock);
  const { near, far } = await tcpPair(t);
  const left = new TLSSocket(near, { isServer: true, cert: certPem, key: keyPem, minVersion: 'TLSv1.3' });
  const right = connectTls({ socket: far, rejectUnauthorized: false });
  for (const end of [left, right]) end.on('error', () => undefined).pause();
  await Promise.all([once(left, 'secure'), once(right, 'secureConnect')]);
  return { left, right };
};

export interface PairOptions {
  /** Instead of a link in memory. */
  readonly ends?: { readonly left: Duplex; readonly right: Duplex };
  readonly clock?: Clock;
  readonly gatewayCarry?: Carry;
  readonly agentCarry?: Carry;
  readonly onOpen?: (incoming: IncomingOpen) => void;
  readonly gatewayLimits?: Partial<HelloLimits>;
  readonly agentLimits?: Partial<HelloLimits>;
  readonly gatewayOptions?: Partial<SessionOptions>;
  readonly agentOptions?: Partial<SessionOptions>;
}

/** Two sessions over a link, in memory unless `ends` says otherwise. */
export const sessionPair = (
  t: TestContext,
  options: PairOptions = {},
): { gateway: SessionCore; agent: SessionCore; left: Duplex; right: Duplex } => {
  const { left, right } = options.ends ?? linkPair(options.gatewayCarry, options.agentCarry);
  const clock = options.clock ?? systemClock;
  const gatewayHello = helloOf('gateway', options.gatewayLimits);
  const agentHello = helloOf('agent', options.agentLimits);
  const gateway = new SessionCore(
    { duplex: left, ownHello: gatewayHello, peerHello: agentHello, leftover: NO_BYTES },
    { clock, ...options.gatewayOptions },
  );
  const agent = new SessionCore(
    { duplex: right, ownHello: agentHello, peerHello: gatewayHello, leftover: NO_BYTES },
    { clock, ...(options.onOpen === undefined ? {} : { onOpen: options.onOpen }), ...options.agentOptions },
  );
  t.after(() => {
    gateway.destroy('internal');
    agent.destroy('internal');
  });
  return { gateway, agent, left, right };
};

/** What became of an opened stream. */
export interface Outcome {
  stream: SessionStream;
  accepted: string | undefined;
  refusal: Refusal | undefined;
  end: StreamEnd | undefined;
}

export const openStream = (
  session: SessionCore,
  socket: Socket,
  early: Buffer = NO_BYTES,
  meta: OpenMeta = metaOf(),
): Outcome => {
  const outcome: Partial<Outcome> = { accepted: undefined, refusal: undefined, end: undefined };
  outcome.stream = session.open(meta, socket, early, {
    onAccept: (info) => {
      outcome.accepted = info.decision_id;
    },
    onRefuse: (refusal) => {
      outcome.refusal = refusal;
    },
    onEnd: (end) => {
      outcome.end = end;
    },
  });
  return outcome as Outcome;
};

export interface Spliced {
  readonly outcome: Outcome;
  readonly app: Socket;
  readonly target: Socket;
  readonly agentEnd: () => StreamEnd | undefined;
  readonly agentSocket: Socket;
  readonly gatewaySocket: Socket;
}

export interface Tunnel {
  readonly gateway: SessionCore;
  readonly agent: SessionCore;
  readonly left: Duplex;
  readonly right: Duplex;
  /** Opens one stream between two real TCP connections and waits for ACCEPT. */
  readonly open: () => Promise<Spliced>;
}

/** Two sessions whose agent accepts every open onto a real TCP connection. */
export const tunnel = (t: TestContext, options: PairOptions = {}): Tunnel => {
  let next: ((incoming: IncomingOpen) => void) | undefined;
  const pair = sessionPair(t, { ...options, onOpen: (incoming) => next?.(incoming) });
  const open = async (): Promise<Spliced> => {
    const [application, destination] = await Promise.all([tcpPair(t), tcpPair(t)]);
    let agentEnd: StreamEnd | undefined;
    next = (incoming) =>
      incoming.accept(destination.near, { decision_id: 'd1' }, (end) => {
        agentEnd = end;
      });
    const outcome = openStream(pair.gateway, application.near);
    await until(() => outcome.accepted !== undefined || outcome.end !== undefined);
    return {
      outcome,
      app: application.far,
      target: destination.far,
      agentEnd: () => agentEnd,
      agentSocket: destination.near,
      gatewaySocket: application.near,
    };
  };
  return { ...pair, open };
};

/** Collects what a socket receives. */
export class Received {
  bytes = 0;
  ended = false;
  error: string | undefined;
  closed = false;
  readonly chunks: Buffer[] = [];

  constructor(socket: Socket) {
    socket.on('data', (chunk: Buffer) => {
      this.bytes += chunk.length;
      this.chunks.push(chunk);
    });
    socket.on('end', () => {
      this.ended = true;
    });
    socket.on('error', (error: NodeJS.ErrnoException) => {
      this.error = error.code;
    });
    socket.on('close', () => {
      this.closed = true;
    });
  }

  get content(): Buffer {
    return Buffer.concat(this.chunks);
  }
}

export interface RawFrame {
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
  readonly value: number;
  readonly payload: Buffer;
}

/** A peer that speaks frames by hand, over the other end of a session's link. */
export class RawPeer {
  readonly frames: RawFrame[] = [];
  closed = false;
  readonly #duplex: Duplex;
  #data: { stream: number; flags: number; offset: number; pieces: Buffer[] } | undefined;

  constructor(duplex: Duplex) {
    this.#duplex = duplex;
    const reader = new FrameReader(SESSION_LIMITS.meta);
    const sink = {
      dataStart: (stream: number, flags: number, offset: number) => {
        this.#data = { stream, flags, offset, pieces: [] };
      },
      dataPiece: (piece: Buffer) => {
        this.#data?.pieces.push(piece);
      },
      dataEnd: () => {
        const data = this.#data;
        if (data === undefined) return;
        const { stream, flags, offset, pieces } = data;
        this.frames.push({ type: FRAME.DATA, flags, stream, value: offset, payload: Buffer.concat(pieces) });
      },
      frame: (type: number, flags: number, stream: number, value: number, payload: Buffer) => {
        this.frames.push({ type, flags, stream, value, payload });
      },
    };
    duplex.on('data', (chunk: Buffer) => reader.push(chunk, sink));
    duplex.on('close', () => {
      this.closed = true;
    });
    duplex.on('end', () => {
      this.closed = true;
    });
  }

  send(...frames: Buffer[]): void {
    this.#duplex.write(Buffer.concat(frames));
  }

  sent(type: number, stream?: number): RawFrame[] {
    return this.frames.filter(
      (frame) => frame.type === type && (stream === undefined || frame.stream === stream),
    );
  }

  /** Waits for a frame of the type. */
  async next(type: number, stream?: number): Promise<RawFrame> {
    await until(() => this.sent(type, stream).length > 0);
    const frame = this.sent(type, stream)[0];
    if (frame === undefined) throw new Error('no frame');
    this.frames.splice(this.frames.indexOf(frame), 1);
    return frame;
  }
}

export const json = (value: object): Buffer => Buffer.from(JSON.stringify(value));

export const rawOpen = (stream: number, limit = 256 * 1024, meta: OpenMeta = metaOf()): Buffer =>
  encodeFrame(FRAME.OPEN, 0, stream, limit, encodeOpen(meta));

export const rawAccept = (stream: number, limit = 256 * 1024): Buffer =>
  encodeFrame(FRAME.ACCEPT, 0, stream, limit, json({ decision_id: 'd1', ext: {} }));

export const rawData = (stream: number, offset: number, payload: Buffer, flags = 0): Buffer =>
  encodeFrame(FRAME.DATA, flags, stream, offset, payload);

export const rawCredit = (stream: number, limit: number, consumed: number, flags = 0): Buffer => {
  const payload = Buffer.alloc(8);
  writeValue(payload, 0, consumed);
  return encodeFrame(FRAME.CREDIT, flags, stream, limit, payload);
};

export const rawReset = (stream: number, sent: number, reason: number): Buffer => {
  const payload = Buffer.alloc(2);
  payload.writeUInt16BE(reason);
  return encodeFrame(FRAME.RESET, 0, stream, sent, payload);
};

/** One session with a raw peer as its other end. */
export const againstRaw = (
  t: TestContext,
  role: 'gateway' | 'agent',
  options: Partial<SessionOptions> & { carry?: Carry; limits?: Partial<HelloLimits> } = {},
): { session: SessionCore; raw: RawPeer; link: Duplex } => {
  const { carry, limits, ...rest } = options;
  const { left, right } = linkPair(carry);
  const session = new SessionCore(
    {
      duplex: left,
      ownHello: helloOf(role, limits),
      peerHello: helloOf(role === 'agent' ? 'gateway' : 'agent'),
      leftover: NO_BYTES,
    },
    { clock: systemClock, ...rest },
  );
  t.after(() => session.destroy('internal'));
  return { session, raw: new RawPeer(right), link: left };
};
