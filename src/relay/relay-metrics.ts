import { Counter, Gauge, Histogram } from 'prom-client';
import { METRIC_PREFIX, type Registry } from '../runtime/index.ts';
import { UNKNOWN_CARRIER } from './data-link.ts';
import type { LinkBook } from './link-book.ts';
import type { LoginBook } from './login-book.ts';
import type { PipeWorkers } from './workers/pipe-workers.ts';

export interface RelayMetrics {
  linkClosed(reason: string, bytesUp: number, bytesDown: number): void;
  linkRefused(reason: string): void;
  revocationEnforced(seconds: number): void;
}

/** Registers the relay's own metrics; gauges are read when scraped. */
export const relayMetrics = (
  registry: Registry,
  links: LinkBook,
  logins: LoginBook,
  workers: PipeWorkers,
): RelayMetrics => {
  const registers = [registry];
  const linkStates = ['offered', 'half', 'joined'] as const;
  new Gauge({
    name: `${METRIC_PREFIX}links`,
    help: 'Data links by carrier and state.',
    labelNames: ['carrier', 'state'],
    registers,
    collect() {
      this.reset();
      for (const state of linkStates)
        this.set({ carrier: state === 'joined' ? 'tcp' : UNKNOWN_CARRIER, state }, 0);
      for (const { carrier = UNKNOWN_CARRIER, state } of links.all()) this.inc({ carrier, state });
    },
  });
  new Gauge({
    name: `${METRIC_PREFIX}link_waiting_bytes`,
    help: 'Bytes read from one side of a link and not yet written to the other, all links.',
    registers,
    collect() {
      this.set(links.all().reduce((sum, link) => sum + link.waitingBytes, 0));
    },
  });
  new Gauge({
    name: `${METRIC_PREFIX}logins`,
    help: 'Logins by role and whether their control link is up.',
    labelNames: ['role', 'state'],
    registers,
    collect() {
      const all = logins.all();
      for (const role of ['agent', 'gateway'] as const) {
        const ofRole = all.filter((login) => login.role === role);
        const up = ofRole.filter((login) => login.channel !== undefined).length;
        this.set({ role, state: 'up' }, up);
        this.set({ role, state: 'down' }, ofRole.length - up);
      }
    },
  });
  new Gauge({
    name: `${METRIC_PREFIX}workers`,
    help: 'Pipe workers by whether they carry data links.',
    labelNames: ['state'],
    registers,
    collect() {
      const all = workers.status();
      for (const state of ['up', 'down'] as const)
        this.set({ state }, all.filter((worker) => worker.state === state).length);
    },
  });
  const bytes = new Counter({
    name: `${METRIC_PREFIX}link_bytes_total`,
    help: 'Raw bytes copied on links that have closed, by direction.',
    labelNames: ['direction'],
    registers,
  });
  const closed = new Counter({
    name: `${METRIC_PREFIX}links_closed_total`,
    help: 'Joined links that closed, by reason.',
    labelNames: ['reason'],
    registers,
  });
  const refused = new Counter({
    name: `${METRIC_PREFIX}links_refused_total`,
    help: 'Link requests and offers that came to nothing, by reason.',
    labelNames: ['reason'],
    registers,
  });
  const enforced = new Histogram({
    name: `${METRIC_PREFIX}revocation_enforce_seconds`,
    help: 'From learning of a revocation to the reset of its last pipe.',
    buckets: [0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 1],
    registers,
  });
  return {
    linkClosed(reason, bytesUp, bytesDown) {
      closed.inc({ reason });
      bytes.inc({ direction: 'up' }, bytesUp);
      bytes.inc({ direction: 'down' }, bytesDown);
    },
    linkRefused: (reason) => refused.inc({ reason }),
    revocationEnforced: (seconds) => enforced.observe(seconds),
  };
};
