import { EventEmitter } from 'node:events';
import type { Control, VerifiedCredential } from '../../src/control/index.ts';
import type {
  AttachedCredential,
  ControlChannel,
  ControlMessage,
  LinkOffer,
  LinkRefusal,
  LinkRequest,
  LoginState,
  NodeLoginOptions,
} from '../../src/protocol/index.ts';
import type { ManualClock } from '../support/manual-clock.ts';

type Role = NodeLoginOptions['role'];

/** What a control link in memory needs of the world around it. */
export interface Wires {
  readonly clock: ManualClock;
  /** Waits until the scheduler chooses this. */
  step(label: string): Promise<void>;
  /** Whether a message never arrives. */
  loses(text: string): boolean;
  verify(token: string, role: Role): ReturnType<Control['admission']['verify']>;
  channel(socket: MemoryWebSocket, onMessage: (message: ControlMessage) => void): ControlChannel;
  /** The relay takes its end. */
  serve(socket: MemoryWebSocket, credential: VerifiedCredential, role: Role): void;
  onPublished(): void;
}

/** One end of a WebSocket in memory: messages arrive in order, each at a moment that the scheduler chooses. */
export class MemoryWebSocket extends EventEmitter {
  readonly bufferedAmount = 0;
  other: MemoryWebSocket | undefined;
  readonly #world: Wires;
  readonly #queue: string[] = [];
  #isClosed = false;

  constructor(world: Wires) {
    super();
    this.#world = world;
  }

  send(text: string): void {
    if (this.#isClosed || this.#world.loses(text)) return;
    this.#queue.push(text);
    void this.#world.step('message').then(() => {
      const next = this.#queue.shift();
      if (next !== undefined) this.other?.arrive(next);
    });
  }

  arrive(text: string): void {
    if (!this.#isClosed) this.emit('message', Buffer.from(text), false);
  }

  close(): void {
    void this.#world.step('close').then(() => this.terminate());
  }

  terminate(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.emit('close', 1000, Buffer.alloc(0));
    this.other?.terminate();
  }

  ping(): void {
    // No time passes: nobody counts the answers.
  }
}

/** NodeLogin's part between a process and the relay, without a network and without reconnecting. */
export class MemoryLogin {
  readonly #world: Wires;
  readonly #options: NodeLoginOptions;
  #channel: ControlChannel | undefined;
  #attached: AttachedCredential | undefined;

  constructor(world: Wires, options: NodeLoginOptions) {
    this.#world = world;
    this.#options = options;
  }

  start(): void {
    void this.#run();
  }

  state(): LoginState {
    return { kind: 'connecting', node: this.#options.node.host, down: undefined };
  }

  async #run(): Promise<void> {
    const { role, name, instance, instanceSecret, build, namespace, credentials, handlers } = this.#options;
    const [source] = credentials;
    if (source === undefined) return;
    const verified = await this.#world.verify(source.mint(this.#world.clock.nowMs()).token, role);
    if (!verified.ok) {
      const { status, code, detail } = verified;
      handlers.onCredentialRefused?.({ handle: source.handle, status, code, detail });
      return;
    }
    const [near, far] = [new MemoryWebSocket(this.#world), new MemoryWebSocket(this.#world)];
    near.other = far;
    far.other = near;
    this.#world.serve(far, verified, role);
    const channel = this.#world.channel(near, (message) => this.#receive(message));
    this.#channel = channel;
    await this.#ask(channel, 'hello', {
      version: 1,
      features: [],
      build,
      instance,
      instance_secret: instanceSecret,
      role,
      name,
      namespace,
      handle: source.handle,
    });
  }

  async #ask<T extends Parameters<ControlChannel['request']>[0]>(
    channel: ControlChannel,
    type: T,
    body: Parameters<typeof channel.request<T>>[1],
  ): Promise<ControlMessage | undefined> {
    return channel.request(type, body).catch(() => undefined);
  }

  async publish(connection: string, _handle: string, spki: string): Promise<void> {
    const cred = this.#attached?.cred ?? '';
    const answer = await this.#channel?.request('publish', { cred, connection, spki });
    if (answer?.t !== 'published') throw new Error('not published');
    this.#world.onPublished();
  }

  unpublish(connection: string): void {
    this.#channel?.send('unpublish', { connection });
  }

  async requestLink(request: LinkRequest): Promise<LinkOffer | LinkRefusal> {
    const answer = await this.#channel?.request('link.request', {
      ...request,
      exclude: [...request.exclude],
    });
    if (answer?.t === 'link.offer') return answer.body;
    return { refused: true, code: 'no_agent', detail: 'refused' };
  }

  /** Shows a fresh token of the same key. */
  async renew(): Promise<void> {
    const [source] = this.#options.credentials;
    const [channel, cred] = [this.#channel, this.#attached?.cred];
    if (source === undefined || channel === undefined || cred === undefined) return;
    const { token } = source.mint(this.#world.clock.nowMs());
    await this.#ask(channel, 'renew', { cred, token });
  }

  /** Shows a token of the same key for one more credential on this login. */
  async attachAgain(): Promise<void> {
    const [source] = this.#options.credentials;
    const channel = this.#channel;
    if (source === undefined || channel === undefined) return;
    const { token } = source.mint(this.#world.clock.nowMs());
    await this.#ask(channel, 'attach', { handle: 'again', connection: source.connection ?? '', token });
  }

  reportLinkFailed(report: Parameters<ControlChannel['send']>[1] & object): void {
    this.#channel?.send('link.failed', report as never);
  }

  reportHealth(): void {
    // Of no interest here.
  }

  attach(): void {
    throw new Error('one key a login');
  }

  detach(): void {
    throw new Error('one key a login');
  }

  async close(): Promise<void> {
    this.#channel?.destroy('over');
  }

  /** As NodeLogin does. */
  #receive(message: ControlMessage): void {
    const { handlers, credentials } = this.#options;
    switch (message.t) {
      case 'attached':
        if (message.body.handle === 'again') return;
        this.#attached = message.body;
        handlers.onAttached?.(message.body);
        return;
      case 'detach': {
        this.#attached = undefined;
        const refused = { status: 401, code: message.body.reason ?? '', detail: 'dropped' };
        handlers.onCredentialRefused?.({ handle: credentials[0]?.handle ?? '', ...refused });
        return;
      }
      case 'connection.set':
        handlers.onConnection?.({ ...message.body, id: message.body.connection_id });
        return;
      case 'link.offer':
        handlers.onOffer?.(message.body);
        return;
      case 'link.closed':
        handlers.onLinkClosed?.(message.body);
        return;
      case 'revoked':
        this.#channel?.send('ack', handlers.onRevoked?.(message.body) ?? {}, message.id);
        return;
      default:
    }
  }
}
