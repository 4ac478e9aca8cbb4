import type { Socket } from 'node:net';
import { AppError, type Clock, foreignCodeOf, type Logger, type TimerWheel } from '../../runtime/index.ts';
import { type Application, plainApplication } from '../application.ts';
import type { GatewayConfig } from '../config.ts';
import type { LinkPool } from '../link-pool.ts';
import type { GatewayMetrics } from '../metrics.ts';
import { bindRemedy, nameListens } from '../names/name-listens.ts';
import type { AddressedHost } from '../names/names.ts';
import { ClientList } from './client-list.ts';
import { ConnectEntrance } from './connect-entrance.ts';
import { Destinations } from './destinations.ts';
import type { Entrance, EntranceSettings } from './entrance.ts';
import { Listener } from './listener.ts';
import { type EntranceKind, Refusals } from './refusals.ts';
import { Socks5Entrance } from './socks5-entrance.ts';

export interface EntrancesDeps {
  readonly clock: Clock;
  readonly wheel: TimerWheel;
  readonly logger: Logger;
  readonly metrics: Pick<GatewayMetrics, 'entranceRefused'>;
  readonly accept: (application: Application, pool: LinkPool) => void;
}

/** One entrance as `/status` shows it. */
export interface EntranceView {
  readonly kind: EntranceKind;
  /** `ADDR:PORT` actually bound. */
  readonly listen: string;
  /** Names of the connections that it leads to. */
  readonly connections: readonly string[];
  /** The target's names that lead there, the fullest first; null for an entrance at an address of its own. */
  readonly names: readonly string[] | null;
  /** Address ranges that it takes connections of. */
  readonly clients: readonly string[];
  /** Whether clients have to log in with name and password. */
  readonly login: boolean;
  /** Clients that have not said yet what they want. */
  readonly handshakes: number;
}

interface OwnListener {
  readonly connection: string;
  readonly kind: 'listener' | 'transparent';
  readonly names: readonly string[] | null;
  readonly configured: string;
  readonly listener: Listener;
}

const openOwn = async ({ configured, listener, names }: OwnListener): Promise<void> => {
  try {
    await listener.open(configured);
  } catch (error) {
    if (!(error instanceof AppError) || names === null) throw error;
    const remedy = bindRemedy(foreignCodeOf(error.cause), configured);
    throw new AppError(error.code, `${error.message}${remedy}`, { cause: error });
  }
};

/** Every way into one gateway. */
export class Entrances {
  readonly #logger: Logger;
  readonly #own: readonly OwnListener[];
  readonly #asking: readonly Entrance[];

  /**
   * @param hosts transparent names with their addresses
   * @param pools one for each connection of the configuration
   */
  constructor(
    config: Pick<GatewayConfig, 'connections' | 'socks5' | 'http_connect'>,
    hosts: readonly AddressedHost[],
    pools: readonly LinkPool[],
    deps: EntrancesDeps,
  ) {
    const { clock, logger, metrics, wheel, accept } = deps;
    const refusals = new Refusals(clock, logger, metrics.entranceRefused);
    const poolOf = new Map(pools.map((pool) => [pool.connection, pool]));
    this.#logger = logger;
    this.#own = config.connections.flatMap(({ name, listen, clients }) => {
      const pool = poolOf.get(name);
      if (pool === undefined) return [];
      const own = (
        kind: OwnListener['kind'],
        configured: string,
        names: OwnListener['names'],
      ): OwnListener => {
        const listener = new Listener({
          kind,
          what: `connection ${name}${names === null ? '' : ` (${names.join(', ')})`}`,
          clients: new ClientList(kind === 'listener' ? clients : undefined),
          refusals,
          logger,
          onSocket: (socket: Socket) => accept(plainApplication(socket), pool),
        });
        return { connection: name, kind, names, configured, listener };
      };
      return [
        ...(listen === undefined ? [] : [own('listener', listen, null)]),
        ...nameListens(name, hosts).map((named) => own('transparent', named.listen, named.names)),
      ];
    });
    const optionsOf = (
      settings: EntranceSettings & { readonly connections?: readonly string[] | undefined },
    ) => ({
      settings,
      destinations: new Destinations(
        config.connections.flatMap(({ name, target }) => {
          const pool = poolOf.get(name);
          const isListed = settings.connections?.includes(name) !== false;
          return pool === undefined || !isListed ? [] : [{ pool, target }];
        }),
      ),
      wheel,
      logger,
      refusals,
      accept,
    });
    this.#asking = [
      ...config.socks5.map((settings) => new Socks5Entrance(optionsOf(settings))),
      ...config.http_connect.map((settings) => new ConnectEntrance(optionsOf(settings))),
    ];
  }

  /** @throws AppError ERR_LISTEN_REFUSED, ERR_CONFIG_HOST_PORT */
  async open(): Promise<void> {
    for (const own of this.#own) {
      await openOwn(own);
      const { connection, listener, names } = own;
      const told = { connection, listen: listener.listen, ...(names === null ? {} : { names }) };
      this.#logger.info(told, 'listening for applications');
    }
    for (const entrance of this.#asking) {
      await entrance.open();
      const { kind, listen, connections } = entrance;
      this.#logger.info({ entrance: kind, listen, connections }, 'listening for applications');
    }
  }

  /** In the order of the configuration: the connections' own listeners and names, SOCKS5, HTTP CONNECT. */
  get views(): readonly EntranceView[] {
    return [
      ...this.#own.map(
        ({ connection, kind, names, listener }): EntranceView => ({
          kind,
          listen: listener.listen,
          connections: [connection],
          names,
          clients: listener.clients,
          login: false,
          handshakes: 0,
        }),
      ),
      ...this.#asking.map(
        (entrance): EntranceView => ({
          kind: entrance.kind,
          listen: entrance.listen,
          connections: entrance.connections,
          names: null,
          clients: entrance.clients,
          login: entrance.needsLogin,
          handshakes: entrance.handshakes,
        }),
      ),
    ];
  }

  /** Clients of one kind of entrance that have not said yet what they want. */
  handshakes(kind: EntranceKind): number {
    return this.#asking.reduce(
      (sum, entrance) => sum + (entrance.kind === kind ? entrance.handshakes : 0),
      0,
    );
  }

  /** Accepts no more; clients that were accepted go on. */
  close(): void {
    for (const { listener } of this.#own) listener.close();
    for (const entrance of this.#asking) entrance.close();
  }

  /** Destroys every socket that no stream has. */
  destroy(): void {
    for (const entrance of this.#asking) entrance.destroy();
  }
}
