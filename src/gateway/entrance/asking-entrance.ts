import type { Socket } from 'node:net';
import { Conversations, type Handshake } from './conversations.ts';
import { clientsOf, type Entrance, type EntranceOptions, usersOf } from './entrance.ts';
import { Listener } from './listener.ts';
import type { EntranceKind } from './refusals.ts';
import type { Users } from './users.ts';

/** What every protocol has in common in which applications ask for where they want to go. */
export abstract class AskingEntrance<Kind extends EntranceKind> implements Entrance {
  readonly kind: Kind;
  protected readonly options: EntranceOptions;
  protected readonly listener: Listener;
  protected readonly conversations: Conversations;
  protected readonly users: Users | undefined;

  constructor(kind: Kind, options: EntranceOptions) {
    const { settings, logger, refusals, wheel, limits } = options;
    this.kind = kind;
    this.options = options;
    this.users = usersOf(settings);
    this.conversations = new Conversations(wheel, limits);
    this.listener = new Listener({
      kind,
      what: kind,
      clients: clientsOf(settings),
      refusals,
      logger,
      onSocket: (socket) => this.#onSocket(socket),
    });
  }

  get listen(): string {
    return this.listener.listen;
  }

  get clients(): readonly string[] {
    return this.listener.clients;
  }

  get connections(): readonly string[] {
    return this.options.destinations.connections;
  }

  get needsLogin(): boolean {
    return this.users !== undefined;
  }

  get handshakes(): number {
    return this.conversations.count;
  }

  open(): Promise<void> {
    return this.listener.open(this.options.settings.listen);
  }

  close(): void {
    this.listener.close();
  }

  destroy(): void {
    this.conversations.destroyAll();
  }

  /** Reads from a new, paused socket what its client asks for. */
  protected abstract onHandshake(socket: Socket, handshake: Handshake): void;

  /** The client has not asked in time. */
  protected abstract onTooSlow(socket: Socket): void;

  #onSocket(socket: Socket): void {
    const handshake = this.conversations.begin(socket, () => this.onTooSlow(socket));
    if (handshake === undefined) {
      this.listener.note(socket, 'overloaded');
      socket.resetAndDestroy();
      return;
    }
    this.onHandshake(socket, handshake);
  }
}
