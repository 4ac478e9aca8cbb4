import {
  AppError,
  Backoff,
  isAppError,
  isCloseReason,
  type Logger,
  messageOf,
  sleep,
  type Timer,
} from '../../runtime/index.ts';
import type { LinkOffer, LinkRefusal } from '../link/offer.ts';
import { ControlChannel } from './control-channel.ts';
import { controlPorts } from '../carrier/choice.ts';
import {
  type ControlDialOptions,
  type DialledControl,
  dialControl,
  HandshakeRefused,
} from './dial-control.ts';
import { type ControlLinkErrorCode, isFinal, refused } from './errors.ts';
import { healthBody } from './health-body.ts';
import { HeldCredentials } from './held-credentials.ts';
import type {
  AttachedCredential,
  CredentialSource,
  HealthReport,
  LinkFailedReport,
  LinkRequest,
  LoginDown,
  LoginState,
  NodeLoginOptions,
} from './login-types.ts';
import type { ControlMessage, Payload } from './messages.ts';
import { answerStreams } from './stream-pages.ts';

/** A control link that stood this long resets the backoff. */
const GRACE_MS = 10_000;
const HEALTH_EVERY_MS = 10_000;

/** What one control link has while it is up. */
interface Up {
  readonly channel: ControlChannel;
  readonly port: number;
  loginId: string;
  sinceMs: number;
  nodeHealthy: boolean;
}

/** An open control link and the port that it came up by. */
type Dialled = DialledControl & { readonly port: number };

type Ended =
  | { readonly kind: 'lost'; readonly detail: string }
  | { readonly kind: 'failed'; readonly error: unknown };

/**
 * The login of this process at one relay node: connects, reconnects for ever, keeps its credentials attached and
 * renewed. Publications end with each control link: publish again when `onAttached` comes.
 */
export class NodeLogin {
  readonly #options: NodeLoginOptions;
  readonly #logger: Logger;
  readonly #credentials: HeldCredentials;
  readonly #backoff = new Backoff();
  readonly #closing = new AbortController();
  #up: Up | undefined;
  #down: LoginDown | undefined;
  #loop: Promise<void> | undefined;
  #health: Timer | undefined;
  /** What came behind the relay's hello before its answer was taken up. */
  #backlog: ControlMessage[] = [];

  constructor(options: NodeLoginOptions) {
    this.#options = options;
    this.#logger = options.logger.child({ node: options.node.host });
    this.#credentials = new HeldCredentials(options.clock, options.credentials, (source, attached) => {
      void this.#refresh(source, attached);
    });
  }

  /** Starts connecting; returns at once. */
  start(): void {
    this.#loop ??= this.#connectLoop();
  }

  state(): LoginState {
    const node = this.#options.node.host;
    if (this.#closing.signal.aborted) return { kind: 'closed', node };
    if (this.#up === undefined) return { kind: 'connecting', node, down: this.#down };
    const { port, loginId, sinceMs, nodeHealthy, channel } = this.#up;
    const credentials = this.#credentials.attached;
    return { kind: 'up', node, port, loginId, sinceMs, rttMs: channel.rttMs, nodeHealthy, credentials };
  }

  /** Ends the login and the control link; data links are not touched. */
  async close(): Promise<void> {
    this.#closing.abort(new Error('login closed'));
    this.#up?.channel.close();
    await this.#loop;
  }

  /** Holds one more credential, at once and after every reconnect; `onAttached` or `onCredentialRefused` follows. */
  attach(source: CredentialSource): void {
    if (this.#credentials.add(source)) void this.#refresh(source, undefined);
  }

  /** Lets a credential go. */
  detach(handle: string): void {
    const attached = this.#credentials.remove(handle);
    if (attached !== undefined) this.#up?.channel.send('detach', { cred: attached.cred });
  }

  /**
   * Offers a connection to gateways at this node until the control link ends.
   *
   * @throws AppError ERR_CONTROL_LINK_DOWN, ERR_CONTROL_LINK_TIMEOUT, ERR_CONTROL_LINK_REFUSED
   */
  async publish(connection: string, credHandle: string, spki: string): Promise<void> {
    const cred = this.#credentials.byHandle(credHandle)?.cred;
    if (cred === undefined) throw this.#isDown(`credential ${credHandle} is not attached`);
    const answer = await this.#channel().request('publish', { cred, connection, spki });
    if (answer.t === 'error') throw refused(answer.body.code, answer.body.detail);
  }

  unpublish(connection: string): void {
    this.#up?.channel.send('unpublish', { connection });
  }

  /**
   * Asks for a data link. A refusal is a value.
   *
   * @throws AppError ERR_CONTROL_LINK_DOWN, ERR_CONTROL_LINK_TIMEOUT
   */
  async requestLink(request: LinkRequest): Promise<LinkOffer | LinkRefusal> {
    const answer = await this.#channel().request('link.request', {
      ...request,
      exclude: [...request.exclude],
    });
    if (answer.t === 'link.offer') return answer.body;
    if (answer.t === 'link.refuse' || answer.t === 'error') {
      const { code, detail } = answer.body;
      const retry_after_ms = answer.t === 'link.refuse' ? answer.body.retry_after_ms : undefined;
      return { refused: true, code: isCloseReason(code) ? code : 'internal', detail, retry_after_ms };
    }
    return { refused: true, code: 'protocol_error', detail: `relay answered ${answer.t}` };
  }

  /** Tells the relay that an offered link did not come up on this side. */
  reportLinkFailed(report: LinkFailedReport): void {
    this.#up?.channel.send('link.failed', { ...report, detail: report.detail?.slice(0, 512) });
  }

  /** An offer whose request was given up is nobody's: its token and place at the relay and the agent are let go. */
  #putBack(message: ControlMessage): void {
    if (message.t !== 'link.offer') return;
    const { link_id } = message.body;
    const detail = 'the offer came after its request was given up';
    this.reportLinkFailed({
      link_id,
      step: 'offer',
      side: this.#options.role,
      reason: 'link_failed',
      detail,
    });
  }

  /** Tells the node now what `health` tells it every 10 s. */
  reportHealth(health: HealthReport): void {
    this.#up?.channel.send('health', healthBody(health));
  }

  #isClosing(): boolean {
    return this.#closing.signal.aborted;
  }

  #channel(): ControlChannel {
    if (this.#up === undefined) throw this.#isDown('not logged in');
    return this.#up.channel;
  }

  #isDown(message: string): AppError<ControlLinkErrorCode> {
    const code: ControlLinkErrorCode = 'ERR_CONTROL_LINK_DOWN';
    return new AppError(code, `${message} at ${this.#options.node.host}`, { retryable: true });
  }

  async #connectLoop(): Promise<void> {
    const { clock, handlers } = this.#options;
    while (!this.#isClosing()) {
      const startedMs = clock.monotonicMs();
      const ended = await this.#connectOnce();
      this.#credentials.reset();
      this.#health?.cancel();
      if (this.#isClosing()) return;
      if (ended.kind === 'lost' && clock.monotonicMs() - startedMs >= GRACE_MS) this.#backoff.reset();
      const down = this.#describe(ended);
      this.#down = down;
      const { retryInMs, ...fields } = down;
      this.#logger.warn(
        { ...fields, retry_in_ms: Math.round(retryInMs) },
        `control link is down: ${down.detail}`,
      );
      handlers.onDown?.(down);
      try {
        await sleep(clock, down.retryInMs, this.#closing.signal);
      } catch {
        return; // close() was called
      }
    }
  }

  #describe(ended: Ended): LoginDown {
    if (ended.kind === 'lost') {
      return { code: 'link_lost', detail: ended.detail, retryInMs: this.#backoff.nextDelayMs() };
    }
    const { error } = ended;
    if (!(error instanceof HandshakeRefused)) {
      const code = isAppError(error) ? error.code : 'internal';
      return { code, detail: messageOf(error), retryInMs: this.#backoff.nextDelayMs() };
    }
    const { status, problem, message, retryAfterMs, isOfRelay } = error;
    const delayMs = isOfRelay && isFinal(status) ? this.#backoff.capDelayMs() : this.#backoff.nextDelayMs();
    const retryInMs = Math.max(delayMs, retryAfterMs ?? 0);
    return { status, code: problem, detail: `${status} ${problem}: ${message}`, retryInMs };
  }

  /** One control link from dial to its end; tries each credential for the handshake until one is accepted. */
  async #connectOnce(): Promise<Ended> {
    const { clock, role, ca, caFile, revocation, handlers } = this.#options;
    let error: unknown = this.#isDown('no credential names a connection to log in');
    for (const source of this.#credentials.sources) {
      if (source.connection === undefined) {
        const detail = `key ${source.keyName} names no connection`;
        const code = 'connection_missing';
        handlers.onCredentialRefused?.({ handle: source.handle, status: 400, code, detail });
        continue;
      }
      try {
        const { token } = source.mint(clock.nowMs());
        const { signal } = this.#closing;
        const { connection } = source;
        const trust = { ca, caFile, revocation };
        const dialled = await this.#dial({ role, ...trust, connection, token, clock, signal });
        return await this.#run(dialled, source);
      } catch (thrown) {
        error = thrown;
        if (!(thrown instanceof HandshakeRefused) || !thrown.isOfRelay) break;
        if (![401, 403, 404].includes(thrown.status)) break;
        const { status, problem, message } = thrown;
        handlers.onCredentialRefused?.({ handle: source.handle, status, code: problem, detail: message });
      }
    }
    return { kind: 'failed', error };
  }

  /** Dials the node's ports in turn, until the relay itself answers at one. */
  async #dial(how: Omit<ControlDialOptions, 'host' | 'port' | 'proxies'>): Promise<Dialled> {
    const { node, carriers } = this.#options;
    const failures: unknown[] = [];
    for (const port of carriers?.controlPorts() ?? controlPorts(node)) {
      try {
        return {
          ...(await dialControl({ ...how, host: node.host, port, proxies: carriers?.proxies })),
          port,
        };
      } catch (thrown) {
        if (how.signal.aborted || (thrown instanceof HandshakeRefused && thrown.isOfRelay)) throw thrown;
        carriers?.controlFailed(port, messageOf(thrown));
        failures.push(thrown);
      }
    }
    if (failures.length === 1) throw failures[0];
    const [first] = failures;
    const code: ControlLinkErrorCode = 'ERR_CONTROL_LINK_DOWN';
    throw new AppError(code, failures.map(messageOf).join('; '), { retryable: true, cause: first });
  }

  #run(dialled: Dialled, first: CredentialSource): Promise<Ended> {
    const { clock, handlers, carriers } = this.#options;
    const { signal } = this.#closing;
    this.#backlog = [];
    return new Promise((resolve) => {
      const channel = new ControlChannel({
        socket: dialled.socket,
        clock,
        logger: this.#logger,
        onMessage: (message) => this.#receive(channel, message),
        onLateAnswer: (message) => this.#putBack(message),
        onClose: (detail) => {
          signal.removeEventListener('abort', onAbort);
          if (this.#up?.channel === channel) {
            this.#up = undefined;
            carriers?.controlDown();
          }
          resolve({ kind: 'lost', detail });
        },
      });
      // Closed before the relay has answered the hello: nobody else would end it.
      const onAbort = (): void => {
        if (this.#up?.channel !== channel) channel.destroy('login closed');
      };
      signal.addEventListener('abort', onAbort, { once: true });
      if (signal.aborted) onAbort();
      this.#greet(channel, dialled, first).then(
        () => {
          if (!channel.isOpen) return;
          this.#health = clock
            .every(HEALTH_EVERY_MS, () => {
              if (handlers.health !== undefined) this.reportHealth(handlers.health());
            })
            .unref();
        },
        (thrown: unknown) => {
          // Said in the handshake or in the hello: a refusal is final either way.
          if (thrown instanceof HandshakeRefused) resolve({ kind: 'failed', error: thrown });
          channel.destroy(messageOf(thrown));
        },
      );
    });
  }

  async #greet(channel: ControlChannel, dialled: Dialled, first: CredentialSource): Promise<void> {
    const { clock, build, instance, instanceSecret, role, name, namespace, handlers } = this.#options;
    const report = handlers.health?.();
    const answer = await channel.request('hello', {
      version: 1,
      features: [],
      build,
      instance,
      instance_secret: instanceSecret,
      role,
      name,
      namespace,
      handle: first.handle,
      bundle_sha256: report?.bundle_sha256,
    });
    if (answer.t === 'error') {
      const { status = 0, code, detail } = answer.body;
      throw new HandshakeRefused(status, code, detail, undefined);
    }
    if (answer.t !== 'hello') throw refused('protocol_error', `relay answered hello with ${answer.t}`);
    const loginId = answer.body.login_id ?? '';
    const nodeHealthy = answer.body.healthy ?? true;
    const { port, certificate } = dialled;
    this.#up = { channel, port, loginId, sinceMs: clock.nowMs(), nodeHealthy };
    this.#down = undefined;
    this.#logger.info({ login_id: loginId, relay: answer.body.name, port }, 'logged in');
    this.#options.carriers?.controlUp(port, certificate, answer.body.tls_spki);
    handlers.onUp?.();
    handlers.onNodeHealth?.(nodeHealthy);
    for (const message of this.#backlog.splice(0)) this.#receive(channel, message);
    if (report !== undefined) this.reportHealth(report);
    for (const source of this.#credentials.sources) {
      if (source.handle !== first.handle) void this.#refresh(source, undefined);
    }
  }

  /** Attaches a credential, or renews the one that is attached. Failures are told and tried again. */
  async #refresh(source: CredentialSource, attached: AttachedCredential | undefined): Promise<void> {
    const { clock, handlers } = this.#options;
    const channel = this.#up?.channel;
    const { handle, connection } = source;
    if (channel === undefined || connection === undefined) return;
    try {
      const { token } = source.mint(clock.nowMs());
      const answer =
        attached === undefined
          ? await channel.request('attach', { handle, connection, token })
          : await channel.request('renew', { cred: attached.cred, token });
      if (answer.t === 'attached') this.#attached(answer.body);
      else if (answer.t === 'error') {
        const { code, detail, status = 0 } = answer.body;
        this.#credentials.refuse(handle);
        this.#logger.warn({ code, connection, key_name: source.keyName }, `credential refused: ${detail}`);
        // A node that cannot renew now (it stops, or is fenced) has not dropped what it holds.
        if (attached === undefined || isFinal(status)) {
          handlers.onCredentialRefused?.({ handle, status, code, detail });
        }
      }
    } catch (thrown) {
      if (!channel.isOpen) return;
      this.#credentials.refuse(handle);
      this.#logger.warn({ connection }, `credential was not refreshed: ${messageOf(thrown)}`);
    }
  }

  #attached(body: Payload<'attached'>): void {
    if (this.#credentials.accept(body)) this.#options.handlers.onAttached?.(body);
  }

  #receive(channel: ControlChannel, message: ControlMessage): void {
    const { handlers } = this.#options;
    if (this.#up?.channel !== channel) {
      this.#backlog.push(message);
      return;
    }
    switch (message.t) {
      case 'attached': {
        this.#attached(message.body);
        return;
      }
      case 'detach': {
        const handle = this.#credentials.drop(message.body.cred);
        if (handle === undefined) return;
        const code = message.body.reason ?? 'token_expired';
        const detail = `the relay dropped the credential: ${code}`;
        return handlers.onCredentialRefused?.({ handle, status: 401, code, detail });
      }
      case 'connection.set':
        return handlers.onConnection?.({ ...message.body, id: message.body.connection_id });
      case 'connection.gone':
        return handlers.onConnectionGone?.(message.body.name);
      case 'link.offer':
        return handlers.onOffer?.(message.body);
      case 'link.closed':
        return handlers.onLinkClosed?.(message.body);
      case 'revoked': {
        const counts = handlers.onRevoked?.(message.body);
        if (counts !== null) channel.send('ack', counts === undefined ? {} : { ...counts }, message.id);
        return;
      }
      case 'streams.query':
        void answerStreams(channel, message.id, message.body, handlers, this.#logger);
        return;
      case 'stream.close':
        channel.send('ack', { found: handlers.onStreamClose?.(message.body) ?? false }, message.id);
        return;
      case 'health':
        if (message.body.healthy === undefined) return;
        this.#up.nodeHealthy = message.body.healthy;
        return handlers.onNodeHealth?.(message.body.healthy);
      case 'goaway':
        return handlers.onGoAway?.(message.body.deadline_ms);
      case 'error':
        this.#logger.warn({ code: message.body.code }, `relay reports: ${message.body.detail}`);
        return;
      default:
        channel.send('error', { code: 'unsupported', detail: `not for this end: ${message.t}` }, message.id);
    }
  }
}
