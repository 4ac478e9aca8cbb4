import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { isPattern, patternAt } from './pattern.ts';

const PIECE_BYTES = 1024;
const PIECE_EVERY_MS = 50;
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
  lastAtApplicationMs: number;
  lastAtTargetMs: number;
  /** When the later of both sockets was told of the end. */
  endedAtMs: number;
}

/** Flows through a tunnel and the target that echoes them, in one process: one monotonic clock. */
export class Flows {
  readonly #all = new Map<number, Flow>();
  readonly #server: Server;
  readonly #sending: NodeJS.Timeout;
  #nextId = 1;

  constructor() {
    this.#server = createServer({ noDelay: true }, (socket) => this.#echo(socket));
    this.#sending = setInterval(() => {
      for (const flow of this.#all.values()) this.#send(flow);
    }, PIECE_EVERY_MS);
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
      lastAtApplicationMs: 0,
      lastAtTargetMs: 0,
      endedAtMs: 0,
    };
    const head = Buffer.alloc(ID_BYTES);
    head.writeUInt32BE(id);
    socket.write(head);
    socket.on('error', () => undefined);
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
    await Promise.race([once(socket, 'data'), once(socket, 'close')]);
    if (flow.ended) throw new Error('a stream was refused');
    return flow;
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
