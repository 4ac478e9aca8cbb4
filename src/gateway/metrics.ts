import { Counter, Gauge, Histogram } from 'prom-client';
import type { Registry } from '../runtime/index.ts';
import type { EntranceKind } from './entrance/refusals.ts';

/** Seconds from the application's connect to ACCEPT; the aim is 3 ms at the median on a warm link. */
const OPEN_BUCKETS = [0.001, 0.003, 0.005, 0.015, 0.05, 0.25, 1, 5, 20];
const MS_PER_SECOND = 1_000;

/** What the gauges read when they are scraped. */
export interface GatewayGauges {
  streams(): number;
  waiting(): number;
  links(): { readonly carrier: string; readonly state: string; readonly count: number }[];
  logins(): { readonly state: string; readonly count: number }[];
  /** Clients of one kind of entrance that have not said yet what they want. */
  handshakes(entrance: EntranceKind): number;
  linkRttMs(): number | undefined;
  creditStalls(): number;
}

export type GatewayMetrics = ReturnType<typeof gatewayMetrics>;

/** The gateway's metrics, named as interfaces.md lists them. */
export const gatewayMetrics = (registry: Registry, gauges: GatewayGauges) => {
  const registers = [registry];
  const gauge = (name: string, help: string, read: () => number | undefined): void => {
    new Gauge({
      name,
      help,
      registers,
      collect() {
        const value = read();
        if (value !== undefined) this.set(value);
      },
    });
  };
  gauge('sallyport_streams_open', 'Application connections carried now.', () => gauges.streams());
  gauge('sallyport_streams_waiting', 'Application connections that wait for a data link.', () =>
    gauges.waiting(),
  );
  gauge('sallyport_link_rtt_seconds', 'Mean smoothed round trip over live data links.', () => {
    const rttMs = gauges.linkRttMs();
    return rttMs === undefined ? undefined : rttMs / MS_PER_SECOND;
  });
  gauge('sallyport_credit_stalls', 'Times a stream ran out of credit, over live links.', () =>
    gauges.creditStalls(),
  );
  new Gauge({
    name: 'sallyport_links',
    help: 'Data links by carrier and state.',
    labelNames: ['carrier', 'state'],
    registers,
    collect() {
      for (const { count, ...labels } of gauges.links()) this.set(labels, count);
    },
  });
  new Gauge({
    name: 'sallyport_logins',
    help: 'Logins at relay nodes by state.',
    labelNames: ['state'],
    registers,
    collect() {
      for (const { state, count } of gauges.logins()) this.set({ state }, count);
    },
  });
  new Gauge({
    name: 'sallyport_entrance_handshakes',
    help: 'Clients of SOCKS5 and CONNECT entrances that have not said yet what they want.',
    labelNames: ['entrance'],
    registers,
    collect() {
      for (const entrance of ['socks5', 'http_connect'] as const)
        this.set({ entrance }, gauges.handshakes(entrance));
    },
  });
  return {
    entranceRefused: new Counter({
      name: 'sallyport_entrance_refused_total',
      help: 'Clients that an entrance refused before there was a stream, by entrance and cause.',
      labelNames: ['entrance', 'cause'],
      registers,
    }),
    opened: new Counter({
      name: 'sallyport_streams_opened_total',
      help: 'Application connections answered, by result.',
      labelNames: ['result'],
      registers,
    }),
    certificateChecks: new Counter({
      name: 'sallyport_certificate_checks_total',
      help: 'Certificates of relays asked about at their CRLs, by what became known.',
      labelNames: ['state'],
      registers,
    }),
    refused: new Counter({
      name: 'sallyport_streams_refused_total',
      help: 'Application connections that became no stream, by reason.',
      labelNames: ['reason'],
      registers,
    }),
    closed: new Counter({
      name: 'sallyport_streams_closed_total',
      help: 'Streams that ended, by reason.',
      labelNames: ['reason'],
      registers,
    }),
    retried: new Counter({
      name: 'sallyport_streams_retried_total',
      help: 'Movable refusals that were tried through another agent.',
      registers,
    }),
    bytes: new Counter({
      name: 'sallyport_bytes_total',
      help: 'Payload bytes of ended streams, up (to the target) and down.',
      labelNames: ['direction'],
      registers,
    }),
    openSeconds: new Histogram({
      name: 'sallyport_open_seconds',
      help: 'From the application connecting to its stream being accepted.',
      buckets: OPEN_BUCKETS,
      registers,
    }),
    reconnects: new Counter({
      name: 'sallyport_reconnects_total',
      help: 'Control links lost or not made.',
      registers,
    }),
    revocationSeconds: new Histogram({
      name: 'sallyport_revocation_enforce_seconds',
      help: 'From a revocation notice to the last application socket reset.',
      buckets: [0.001, 0.005, 0.025, 0.05, 0.1, 0.25, 1],
      registers,
    }),
  };
};
