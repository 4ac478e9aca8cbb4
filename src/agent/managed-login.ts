import type { LoginHandlers, LoginState, NodeLoginOptions } from '../protocol/index.ts';
import { AppError, type Logger, messageOf } from '../runtime/index.ts';
import type { MakeLogin } from './connector.ts';
import type { AgentErrorCode } from './errors.ts';

type Login = ReturnType<MakeLogin>;

/** What a login that is not there tells of itself. */
const BARRED = { code: 'managed_denied', detail: 'managed settings do not allow this relay', retryInMs: 0 };

/** Handlers that hear nothing more once the login is let go of. */
const whileHeld = (handlers: LoginHandlers, isHeld: () => boolean): LoginHandlers => ({
  ...handlers,
  onDown: (cause) => (isHeld() ? handlers.onDown?.(cause) : undefined),
  onOffer: (offer) => (isHeld() ? handlers.onOffer?.(offer) : undefined),
  onAttached: (credential) => (isHeld() ? handlers.onAttached?.(credential) : undefined),
  onCredentialRefused: (refused) => (isHeld() ? handlers.onCredentialRefused?.(refused) : undefined),
  onConnectionGone: (name) => (isHeld() ? handlers.onConnectionGone?.(name) : undefined),
  onConnection: (connection) => (isHeld() ? handlers.onConnection?.(connection) : undefined),
  onNodeHealth: (healthy) => (isHeld() ? handlers.onNodeHealth?.(healthy) : undefined),
  onGoAway: (deadlineMs) => (isHeld() ? handlers.onGoAway?.(deadlineMs) : undefined),
});

/** A login at one relay node for as long as managed settings allow that node; while they do not, nothing is dialled. */
class ManagedLogin implements Login {
  readonly #make: MakeLogin;
  readonly #options: NodeLoginOptions;
  readonly #isAllowed: () => boolean;
  readonly #ending = new Set<Promise<void>>();
  /** What the node was asked to offer through the login that is there. */
  readonly #published = new Set<string>();
  /** Every credential that it should hold, by handle. */
  readonly #sources: Map<string, NodeLoginOptions['credentials'][number]>;
  #inner: Login | undefined;
  #isStarted = false;
  #isClosed = false;

  constructor(make: MakeLogin, options: NodeLoginOptions, isAllowed: () => boolean) {
    this.#make = make;
    this.#options = options;
    this.#sources = new Map(options.credentials.map((source) => [source.handle, source]));
    this.#isAllowed = isAllowed;
  }

  start(): void {
    this.#isStarted = true;
    this.govern();
  }

  /** Takes up what is allowed now; a login that is not ends in this tick. */
  govern(): void {
    if (!this.#isStarted || this.#isClosed) return;
    if (!this.#isAllowed()) {
      this.#letGo();
    } else if (this.#inner === undefined) {
      const inner: Login = this.#make({
        ...this.#options,
        credentials: [...this.#sources.values()],
        handlers: whileHeld(this.#options.handlers, () => this.#inner === inner),
      });
      this.#inner = inner;
      inner.start();
    }
  }

  state(): LoginState {
    const node = this.#options.node.host;
    if (this.#isClosed) return { kind: 'closed', node };
    return this.#inner?.state() ?? { kind: 'connecting', node, down: this.#isStarted ? BARRED : undefined };
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#inner?.close();
    await Promise.all(this.#ending);
  }

  publish(connection: string, handle: string, spki: string): Promise<void> {
    if (this.#inner === undefined) {
      return Promise.reject(new AppError<AgentErrorCode>('ERR_AGENT_MANAGED', BARRED.detail));
    }
    this.#published.add(connection);
    return this.#inner.publish(connection, handle, spki);
  }

  unpublish(connection: string): void {
    this.#published.delete(connection);
    this.#inner?.unpublish(connection);
  }

  attach(source: Parameters<Login['attach']>[0]): void {
    this.#sources.set(source.handle, source);
    this.#inner?.attach(source);
  }

  detach(handle: string): void {
    this.#sources.delete(handle);
    this.#inner?.detach(handle);
  }

  reportLinkFailed(report: Parameters<Login['reportLinkFailed']>[0]): void {
    this.#inner?.reportLinkFailed(report);
  }

  reportHealth(report: Parameters<Login['reportHealth']>[0]): void {
    this.#inner?.reportHealth(report);
  }

  #letGo(): void {
    const inner = this.#inner;
    if (inner === undefined) return;
    // The node sees the end of a control link later than that of data links, and would offer their gateways this agent
    // again, which nobody would answer. This it hears at once.
    for (const connection of this.#published) inner.unpublish(connection);
    this.#published.clear();
    this.#inner = undefined;
    const ended: Promise<void> = inner
      .close()
      .catch((error: unknown) => this.#logger.warn({ err: messageOf(error) }, 'ending a login failed'))
      .finally(() => this.#ending.delete(ended));
    this.#ending.add(ended);
    this.#options.handlers.onDown?.(BARRED);
  }

  get #logger(): Logger {
    return this.#options.logger;
  }
}

/** Makes logins that managed settings govern. */
export class ManagedLogins {
  readonly #make: MakeLogin;
  readonly #isAllowed: (node: string) => boolean;
  readonly #logins: ManagedLogin[] = [];

  /** @param isAllowed whether the relay node with this host may be dialled now */
  constructor(make: MakeLogin, isAllowed: (node: string) => boolean) {
    this.#make = make;
    this.#isAllowed = isAllowed;
  }

  readonly make: MakeLogin = (options) => {
    const login = new ManagedLogin(this.#make, options, () => this.#isAllowed(options.node.host));
    this.#logins.push(login);
    return login;
  };

  /** What is allowed has changed. */
  govern(): void {
    for (const login of this.#logins) login.govern();
  }
}
