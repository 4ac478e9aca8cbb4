import { SeverityNumber } from '@opentelemetry/api-logs';
import { type Resource, resourceFromAttributes } from '@opentelemetry/resources';
import type { ProtobufLogsSerializer } from '@opentelemetry/otlp-transformer';
import { packageVersion } from '../../runtime/index.ts';
import type { Envelope } from '../event/projection.ts';
import type { SinkEvent } from './backlog.ts';
import { factsOf } from './event-facts.ts';

export type LogRecord = Parameters<typeof ProtobufLogsSerializer.serializeRequest>[0][number];

/** OpenTelemetry's severity of each of OCSF's, 1 to 5: informational, low, medium, high, critical. */
const SEVERITIES: readonly { readonly number: SeverityNumber; readonly text: string }[] = [
  { number: SeverityNumber.INFO, text: 'INFO' },
  { number: SeverityNumber.INFO, text: 'INFO' },
  { number: SeverityNumber.INFO2, text: 'INFO2' },
  { number: SeverityNumber.WARN, text: 'WARN' },
  { number: SeverityNumber.ERROR, text: 'ERROR' },
  { number: SeverityNumber.FATAL, text: 'FATAL' },
];

/** Names of OpenTelemetry's conventions for what we call otherwise; everything else is under `sallyport.`. */
const ATTRIBUTE: Readonly<Record<string, string>> = {
  target_host: 'server.address',
  target_port: 'server.port',
  target_addr: 'network.peer.address',
  source_addr: 'client.address',
};

const SCOPE = { name: 'sallyport.audit', version: packageVersion } as const;
const MAX_RESOURCES = 64;

type HrTime = LogRecord['hrTime'];
const SECOND_MS = 1_000;
const NANOSECONDS = 1_000_000;

const hrTimeOf = (atMs: number): HrTime => {
  const seconds = Math.floor(atMs / SECOND_MS);
  return [seconds, Math.round((atMs - seconds * SECOND_MS) * NANOSECONDS)];
};

const severityOf = (ocsf: number): Pick<LogRecord, 'severityNumber' | 'severityText'> => {
  const { number, text } = SEVERITIES[ocsf] ?? { number: SeverityNumber.UNSPECIFIED, text: '' };
  return { severityNumber: number, severityText: text };
};

/** Makes the log records of events; one resource for all events of one process, as the serializer groups by it. */
export class OtlpRecords {
  readonly #hostName: string;
  readonly #resources = new Map<string, Resource>();

  constructor(hostName: string) {
    this.#hostName = hostName;
  }

  /** The log record of an event that is read at `observedMs`. Total, as `factsOf` is. */
  of(event: SinkEvent, observedMs: number): LogRecord {
    const facts = factsOf(event);
    const attributes: Record<string, string | number> = {
      'sallyport.chain': event.chain,
      'sallyport.seq': event.seq,
    };
    if (facts.envelope !== undefined) attributes['log.record.uid'] = facts.envelope.id;
    if (facts.reason !== undefined) attributes['sallyport.reason'] = facts.reason;
    for (const [name, value] of facts.fields) attributes[ATTRIBUTE[name] ?? `sallyport.${name}`] = value;
    return {
      hrTime: hrTimeOf(facts.at === undefined ? observedMs : Date.parse(facts.at)),
      hrTimeObserved: hrTimeOf(observedMs),
      ...severityOf(facts.severity),
      eventName: `sallyport.${facts.type}`,
      body: event.canonical.toString('utf8'),
      resource: this.#resourceOf(facts.envelope?.origin),
      instrumentationScope: SCOPE,
      attributes,
      droppedAttributesCount: 0,
    };
  }

  #resourceOf(origin: Envelope['origin'] | undefined): Resource {
    const key = JSON.stringify(origin ?? null);
    const known = this.#resources.get(key);
    if (known !== undefined) return known;
    const resource = resourceFromAttributes({
      'service.name': `sallyport-${origin?.kind ?? 'process'}`,
      'service.namespace': origin?.namespace,
      'service.instance.id': origin?.instance,
      'service.version': origin?.version,
      'host.name': this.#hostName,
      'sallyport.name': origin?.name,
    });
    if (this.#resources.size >= MAX_RESOURCES) this.#resources.clear();
    this.#resources.set(key, resource);
    return resource;
  }
}
