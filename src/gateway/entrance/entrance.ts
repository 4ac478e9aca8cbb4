import type { Logger, TimerWheel } from '../../runtime/index.ts';
import type { Application } from '../application.ts';
import type { LinkPool } from '../link-pool.ts';
import { ClientList } from './client-list.ts';
import type { ConversationLimits } from './conversations.ts';
import type { Destinations } from './destinations.ts';
import type { EntranceKind, Refusals } from './refusals.ts';
import { type User, Users } from './users.ts';

/** A way into the gateway for applications that say themselves where they want to go. */
export interface Entrance {
  readonly kind: EntranceKind;
  /** `ADDR:PORT` as bound; empty before. */
  readonly listen: string;
  readonly clients: readonly string[];
  readonly connections: readonly string[];
  readonly needsLogin: boolean;
  /** Clients that have not said yet what they want. */
  readonly handshakes: number;
  /** @throws AppError ERR_LISTEN_REFUSED, ERR_CONFIG_HOST_PORT */
  open(): Promise<void>;
  /** Accepts no more; clients that were accepted go on. */
  close(): void;
  /** Destroys every socket that no stream has. */
  destroy(): void;
}

/** One entry of `socks5` or `http_connect` in gateway.yaml. */
export interface EntranceSettings {
  readonly listen: string;
  readonly clients?: readonly string[] | undefined;
  readonly users?: readonly User[] | undefined;
}

export interface EntranceOptions {
  readonly settings: EntranceSettings;
  readonly destinations: Destinations;
  readonly wheel: TimerWheel;
  readonly logger: Logger;
  readonly refusals: Refusals;
  readonly limits?: ConversationLimits;
  /** Opens a stream for an application. */
  readonly accept: (application: Application, pool: LinkPool) => void;
}

/** What `OPEN.claimed.label` says of an application that came by this entrance. */
export const labelOf = (kind: EntranceKind, user: string | undefined): string =>
  user === undefined ? kind : `${kind}/${user}`;

export const clientsOf = ({ clients }: EntranceSettings): ClientList => new ClientList(clients);

export const usersOf = ({ users }: EntranceSettings): Users | undefined =>
  users === undefined ? undefined : new Users(users);

/** For logs: `HOST:PORT` as a client asked for it, cut. */
export const askedFor = (host: string, port: number): string => `${host.slice(0, 255)}:${port}`;
