import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';

/** Who takes what a socket reads. */
export interface ReadTarget {
  /**
   * `count` bytes are in `buffer`, from its start. Answers where the next read goes, never an empty buffer. The socket
   * may be paused from inside.
   */
  read(count: number, buffer: Buffer): Buffer;
}

/** What Node's `onread` option sets up in a socket; the names are those of its symbols. */
interface Hooks {
  readonly kBuffer: symbol;
  readonly kBufferCb: symbol;
  readonly kBufferGen: symbol;
}

interface UserBufferHandle {
  useUserBuffer?(buffer: Buffer): unknown;
}

type Hooked = Duplex & { readonly _handle?: UserBufferHandle | null } & Record<symbol, unknown>;

const findHooks = (): Hooks | undefined => {
  const symbols = Object.getOwnPropertySymbols(new Socket());
  const named = (name: string): symbol | undefined => symbols.find((symbol) => symbol.description === name);
  const [kBuffer, kBufferCb, kBufferGen] = [named('kBuffer'), named('kBufferCb'), named('kBufferGen')];
  if (kBuffer === undefined || kBufferCb === undefined || kBufferGen === undefined) return undefined;
  return { kBuffer, kBufferCb, kBufferGen };
};

const hooks = findHooks();
const bound = new WeakMap<Duplex, SocketReads>();

/**
 * Reads of a connected socket into buffers of its owner, instead of one that Node allocates for each read. It is what
 * the option `onread` of `net.connect` does, for sockets that a server accepted or TLS wraps (docs/adr/0008). While
 * there is no target, what is read is pushed into the stream as usual.
 */
export class SocketReads {
  target: ReadTarget | undefined;
  readonly #socket: Duplex;
  #next: Buffer;

  /**
   * The one binding of this socket; `undefined` when it has no native handle or this Node does not let it: then there
   * is 'data', as ever. `first` is where the first read goes.
   */
  static of(socket: Duplex, first: Buffer): SocketReads | undefined {
    const before = bound.get(socket);
    if (before !== undefined) return before;
    const handle = (socket as Hooked)._handle;
    if (hooks === undefined || typeof handle?.useUserBuffer !== 'function') return undefined;
    const reads = new SocketReads(socket, first);
    const hooked = socket as Hooked;
    hooked[hooks.kBuffer] = first;
    hooked[hooks.kBufferCb] = reads.#read;
    hooked[hooks.kBufferGen] = reads.#following;
    handle.useUserBuffer(first);
    bound.set(socket, reads);
    return reads;
  }

  private constructor(socket: Duplex, first: Buffer) {
    this.#socket = socket;
    this.#next = first;
  }

  readonly #read = (count: number, buffer: Buffer): boolean => {
    if (this.target === undefined) return this.#socket.push(Buffer.from(buffer.subarray(0, count)));
    this.#next = this.target.read(count, buffer);
    return true;
  };

  readonly #following = (): Buffer => this.#next;
}
