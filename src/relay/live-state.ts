import type {
  AgentLogin,
  LinkInfo,
  LiveState,
  LoginInfo,
  StreamFailure,
  StreamInfo,
} from '../control/index.ts';
import type { Payload } from '../protocol/index.ts';
import { type Clock, type CloseReason, type Logger, messageOf } from '../runtime/index.ts';
import { UNKNOWN_CARRIER } from './data-link.ts';
import type { Failures } from './failures.ts';
import type { LinkBook } from './link-book.ts';
import type { Login } from './login.ts';
import type { LoginBook } from './login-book.ts';

/** How long agents have to answer what they are asked about their streams. */
export const STREAMS_TIMEOUT_MS = 1_000;
/** Pages asked of one agent. */
const MAX_PAGES = 4_096;

export interface RelayLiveStateOptions {
  readonly node: string;
  readonly links: LinkBook;
  readonly logins: LoginBook;
  readonly failures: Failures;
  readonly clock: Clock;
  readonly logger: Logger;
}

const rfc3339 = (ms: number): string => new Date(ms).toISOString();

/** An agent's login as every node tells of it. */
export const agentLoginOf = (login: Login): AgentLogin => ({
  name: login.name,
  instance: login.instance,
  login_id: login.id,
  since: rfc3339(login.openedMs),
  address: login.address ?? null,
  state: login.channel === undefined ? 'down' : 'up',
  build: login.build,
  bundle_sha256: login.bundleSha256 ?? null,
  bundle_sequence: login.bundleSequence ?? null,
  credentials: [...login.credentials.values()].map(({ verified }) => ({
    connection: verified.connection,
    key_id: verified.key_id,
    principal: verified.principal,
  })),
  published: [...login.published.keys()],
  links: login.linkCount - login.handshakeCount,
  streams: login.streams,
});

/** What only this node knows, for the management API. */
export class RelayLiveState implements LiveState {
  readonly #options: RelayLiveStateOptions;

  constructor(options: RelayLiveStateOptions) {
    this.#options = options;
  }

  logins(): readonly LoginInfo[] {
    return this.#options.logins.all().map((login) => ({
      login_id: login.id,
      node: this.#options.node,
      role: login.role,
      name: login.name,
      instance: login.instance,
      address: login.address ?? null,
      opened_at: rfc3339(login.openedMs),
      state: login.channel === undefined ? 'down' : 'up',
      build: login.build,
      bundle_sha256: login.bundleSha256 ?? null,
      credentials: [...login.credentials.values()].map(({ verified }) => ({
        connection: verified.connection,
        key_id: verified.key_id,
        principal: verified.principal,
        expires_at: rfc3339(verified.expires_at_ms),
      })),
      published: [...login.published.keys()],
    }));
  }

  links(): readonly LinkInfo[] {
    return this.#options.links.all().flatMap((link) =>
      link.state === 'closed'
        ? []
        : [
            {
              link_id: link.id,
              node: this.#options.node,
              connection: link.connection,
              carrier: link.carrier ?? UNKNOWN_CARRIER,
              state: link.state,
              gateway: link.gateway.login.name,
              agent: link.agent.login.name,
              sender_principal: link.sender.principal,
              sender_key_id: link.sender.id,
              listener_principal: link.listener.principal,
              listener_key_id: link.listener.id,
              opened_at: rfc3339(link.offeredMs),
              bytes_up: link.bytesUp,
              bytes_down: link.bytesDown,
            },
          ],
    );
  }

  async streams(): Promise<readonly StreamInfo[]> {
    const { clock } = this.#options;
    const deadlineMs = clock.monotonicMs() + STREAMS_TIMEOUT_MS;
    const answers = await Promise.all(this.#agents().map((agent) => this.#streamsOf(agent, deadlineMs)));
    return answers.flat().map((stream) => ({
      stream_id: stream.stream_id,
      connection: stream.connection,
      principal: stream.principal,
      key_id: stream.key_id,
      agent: stream.agent,
      gateway: stream.gateway,
      target: stream.target,
      opened_at: stream.opened_at,
      bytes_up: stream.bytes_up,
      bytes_down: stream.bytes_down,
      policy_rule: stream.policy_rule,
    }));
  }

  lastFailures(connection: string): readonly StreamFailure[] {
    return this.#options.failures.last(connection);
  }

  async closeStream(streamId: string, reason: CloseReason): Promise<boolean> {
    const answers = await Promise.all(
      this.#agents().map(async ({ channel }) => {
        try {
          const answer = await channel?.request(
            'stream.close',
            { stream_id: streamId, reason },
            STREAMS_TIMEOUT_MS,
          );
          return answer?.t === 'ack' && answer.body.found === true;
        } catch (thrown) {
          this.#options.logger.warn({ detail: messageOf(thrown) }, 'an agent did not answer stream.close');
          return false;
        }
      }),
    );
    return answers.includes(true);
  }

  #agents(): Login[] {
    return this.#options.logins.connected().filter(({ role }) => role === 'agent');
  }

  /** Every page within the deadline; what came before it counts. */
  async #streamsOf(agent: Login, deadlineMs: number): Promise<Payload<'streams.answer'>['items']> {
    const { clock, logger } = this.#options;
    const items: Payload<'streams.answer'>['items'] = [];
    let next: string | undefined;
    try {
      for (let page = 0; page < MAX_PAGES; page += 1) {
        const leftMs = deadlineMs - clock.monotonicMs();
        if (leftMs <= 0) break;
        const answer = await agent.channel?.request('streams.query', { next }, leftMs);
        if (answer?.t !== 'streams.answer') break;
        items.push(...answer.body.items);
        next = answer.body.next;
        if (next === undefined) break;
      }
    } catch (thrown) {
      logger.warn({ agent: agent.name, detail: messageOf(thrown) }, 'an agent did not list its streams');
    }
    return items;
  }
}
