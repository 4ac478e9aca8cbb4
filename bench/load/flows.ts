import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { endedByReset } from '../../src/protocol/session/reset-detection.ts';
import { isPattern, patternAt } from './pattern.ts';
import { encodeRequest, MODE } from './request.ts';

const PIECE_BYTES = 1024;
/** Flows send in turns, so that ten thousand of them are no burst. */
const TURN_MS = 50;
const SETTLE_MS = 30_000;
/** Streams opened at one time. */
const BATCH = 50;
/** A flow says which one it is before its pattern. */
const ID_BYTES = 4;

/** A stream that is echoed: what it sent, what came back, and when its last byte came at either socket. */
export interface Flow {
  readonly id: number;
  readonly socket: Socket;
  sent: number;
  received: number;
  wrong: boolean;
  ended: boolean;
  /** It ended by a reset, as the application saw it. */
  reset: boolean;
  lastAtApplicationMs: number;
  lastAtTargetMs: number;
  /** When the later of both sockets was told of the end; with a target process, the application's. */
  endedAtMs: number;
}

export interface FlowsOptions {
  /** Each flow sends 1 KiB this often, a multiple of 50. */
  readonly pieceEveryMs?: number;
  /** They lead to the benchmark's target process: beyond 9,000 flows one process lacks descriptors for both ends. */
  readonly toTargetProcess?: boolean;
}

/** Flows through a tunnel and, usually, the target that echoes them, in one process: one monotonic clock. */
export class Flows {
  readonly #all = new Map<number, Flow>();
  readonly #server: Server;
  readonly #sending: NodeJS.Timeout;
  #nextId = 1;
  #turn = 0;

  readonly #toTargetProcess: boolean;

  constructor({ pieceEveryMs = TURN_MS, toTargetProcess = false }: FlowsOptions = {}) {
    this.#toTargetProcess = toTargetProcess;
    const turns = pieceEveryMs / TURN_MS;
    this.#server = createServer({ noDelay: true }, (socket) => this.#echo(socket));
    this.#sending = setInterval(() => {
      this.#turn = (this.#turn + 1) % turns;
      for (const flow of this.#all.values()) if (flow.id % turns === this.#turn) this.#send(flow);
    }, TURN_MS);
  }

  async listen(): Promise<number> {
    this.#server.listen({ port: 0, host: '127.0.0.1', backlog: 2048 });
    await once(this.#server, 'listening');
    const address = this.#server.address();
    return typeof address === 'object' ? (address?.port ?? 0) : 0;
  }

  /** Opens flows to `ADDR:PORT`; each has moved bytes when this resolves. */
  async open(address: string, count: number): Promise<Flow[]> {
    const flows: Flow[] = [];
    while (flows.length < count) {
      const size = Math.min(BATCH, count - flows.length);
      flows.push(...(await Promise.all(Array.from({ length: size }, () => this.#start(address)))));
    }
    return flows;
  }

  /**
   * Sends nothing more and waits until all that these flows ever sent has come back.
   * @throws Error when one ended, got a wrong byte or waits for one in vain
   */
  async settle(flows: readonly Flow[]): Promise<void> {
    clearInterval(this.#sending);
    const untilMs = performance.now() + SETTLE_MS;
    for (;;) {
      const hurt = flows.filter(({ ended, wrong }) => ended || wrong).length;
      if (hurt > 0) throw new Error(`${hurt} streams were hurt`);
      const missing = flows.filter(({ sent, received }) => received !== sent).length;
      if (missing === 0) return;
      if (performance.now() > untilMs) throw new Error(`${missing} streams have lost bytes`);
      await new Promise((resolve) => setTimeout(resolve, TURN_MS));
    }
  }

  close(): void {
    clearInterval(this.#sending);
    for (const { socket } of this.#all.values()) socket.destroy();
    this.#server.close();
  }

  async #start(address: string): Promise<Flow> {
    const colon = address.lastIndexOf(':');
    const socket = connect({
      host: address.slice(0, colon),
      port: Number(address.slice(colon + 1)),
      noDelay: true,
    });
    const id = this.#nextId;
    this.#nextId += 1;
    const flow: Flow = {
      id,
      socket,
      sent: 0,
      received: 0,
      wrong: false,
      ended: false,
      reset: false,
      lastAtApplicationMs: 0,
      lastAtTargetMs: 0,
      endedAtMs: 0,
    };
    socket.write(this.#head(id));
    socket.on('error', (error: NodeJS.ErrnoException) => (flow.reset = error.code === 'ECONNRESET'));
    // Node calls a reset behind bytes that it had not read yet an end; the kernel knows better.
    socket.on('end', () => (flow.reset ||= endedByReset(socket)));
    socket.on('close', () => {
      flow.ended = true;
      flow.endedAtMs = performance.now();
      this.#all.delete(id);
    });
    socket.on('data', (chunk) => {
      flow.wrong ||= !isPattern(chunk, flow.received);
      flow.received += chunk.length;
      flow.lastAtApplicationMs = performance.now();
    });
    this.#all.set(id, flow);
    socket.once('connect', () => this.#send(flow));
    // Waiting for either fails when the socket does: a reset before the first byte.
    const answered = await Promise.race([once(socket, 'data'), once(socket, 'close')]).catch(() => undefined);
    if (answered === undefined || flow.ended)
      throw new Error('a stream was refused: was there time to decide?');
    return flow;
  }

  #head(id: number): Buffer {
    if (this.#toTargetProcess) {
      const sizes = { requestBytes: PIECE_BYTES, responseBytes: PIECE_BYTES };
      return encodeRequest({ mode: MODE.echo, seed: 0, durationMs: 0, ...sizes });
    }
    const head = Buffer.alloc(ID_BYTES);
    head.writeUInt32BE(id);
    return head;
  }

  #send(flow: Flow): void {
    const { socket } = flow;
    if (!socket.writable || socket.connecting || socket.writableLength > 0) return;
    socket.write(patternAt(flow.sent, PIECE_BYTES));
    flow.sent += PIECE_BYTES;
  }

  #echo(socket: Socket): void {
    let head = Buffer.alloc(0);
    let flow: Flow | undefined;
    socket.on('error', () => undefined);
    socket.on('close', () => {
      if (flow !== undefined) flow.endedAtMs = performance.now();
    });
    socket.on('data', (chunk) => {
      let bytes = chunk;
      if (flow === undefined) {
        head = Buffer.concat([head, chunk]);
        if (head.length < ID_BYTES) return;
        flow = this.#all.get(head.readUInt32BE(0));
        bytes = head.subarray(ID_BYTES);
      }
      if (flow !== undefined) flow.lastAtTargetMs = performance.now();
      if (bytes.length > 0) socket.write(bytes);
    });
  }
}
