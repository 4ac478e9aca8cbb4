import type { StreamInfo } from '../protocol/index.ts';
import { formatHostPort } from '../runtime/index.ts';
import type { LiveStream, LiveStreams } from './live-streams.ts';

const streamInfo = (stream: LiveStream): StreamInfo => {
  const { offer } = stream.link;
  const { host, port } = stream.base.target;
  return {
    stream_id: stream.id,
    link_id: stream.link.id,
    connection: offer.connection,
    principal: offer.sender.principal,
    key_id: offer.sender.id,
    agent: stream.base.agent.name,
    gateway: offer.gateway,
    target: formatHostPort({ host, port }),
    opened_at: new Date(stream.openedAtMs).toISOString(),
    bytes_up: stream.session?.bytesUp ?? 0,
    bytes_down: stream.session?.bytesDown ?? 0,
    policy_rule: stream.rule,
  };
};

/** The open streams as `stream list --json` shows them, of one connection or of all. */
export const streamInfos = (streams: LiveStreams, connection: string | undefined): StreamInfo[] => {
  const infos: StreamInfo[] = [];
  for (const stream of streams) {
    if (stream.session === undefined) continue;
    if (connection === undefined || stream.link.offer.connection === connection)
      infos.push(streamInfo(stream));
  }
  return infos;
};
