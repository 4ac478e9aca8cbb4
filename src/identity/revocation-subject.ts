/** What a revocation ends: a key, else an agent, else a connection. */
export interface RevocationSubject {
  /** The dead key; null when it is an agent or a connection that is dead. */
  readonly key_id: string | null;
  /** Name of the dead agent, whatever key it logs in with. */
  readonly agent: string | null;
  /** The one dead installation of that agent; null: every one. */
  readonly instance: string | null;
  /** The connection of the dead key; without key and agent, the connection that is dead. */
  readonly connection_id: string | null;
}

/** What a data link stands on: it ends with any of these. */
export interface LinkStanding {
  /** Of sender and listener. */
  readonly keyIds: readonly [string, string];
  readonly agent: string;
  readonly instance: string;
  readonly connectionId: string;
}

const agentSubject = (name: string): string => `agent/${name}`;
const instanceSubject = (name: string, instance: string): string => `agent/${name}/${instance}`;

/** The one id of a connection's removal. */
export const connectionSubjectId = (id: string): string => `connection/${id}`;

/** The ids under which an installation of an agent may be revoked. */
export const agentSubjectIds = (name: string, instance: string): readonly [string, string] => [
  agentSubject(name),
  instanceSubject(name, instance),
];

/** The id of the key, `agent/NAME`, `agent/NAME/INSTANCE` or `connection/ID`. */
export const subjectIdOf = ({ key_id, agent, instance, connection_id }: RevocationSubject): string => {
  if (key_id !== null) return key_id;
  if (agent === null) return connectionSubjectId(connection_id ?? '');
  return instance === null ? agentSubject(agent) : instanceSubject(agent, instance);
};

/** The ids of everything that a link stands on, in the order in which its end is explained. */
export const standingIdsOf = ({ keyIds, agent, instance, connectionId }: LinkStanding): readonly string[] => [
  ...keyIds,
  ...agentSubjectIds(agent, instance),
  connectionSubjectId(connectionId),
];

/** True when the subject is that agent. */
export const isAgentSubject = (
  { key_id, agent, instance }: RevocationSubject,
  name: string,
  installation: string,
): boolean => key_id === null && agent === name && (instance === null || instance === installation);

/** True when the link stands on what the revocation ends. */
export const endsLink = (subject: RevocationSubject, link: LinkStanding): boolean => {
  if (subject.key_id !== null) return link.keyIds.includes(subject.key_id);
  if (subject.agent !== null) return isAgentSubject(subject, link.agent, link.instance);
  return subject.connection_id === link.connectionId;
};

/** The subject of a notice on the control link, where a key id is empty and the rest absent when it is about another. */
export const subjectOfNotice = (notice: {
  readonly key_id: string;
  readonly agent?: string | undefined;
  readonly instance?: string | undefined;
  readonly connection_id?: string | undefined;
}): RevocationSubject => ({
  key_id: notice.key_id === '' ? null : notice.key_id,
  agent: notice.agent ?? null,
  instance: notice.instance ?? null,
  connection_id: notice.connection_id ?? null,
});

/** The fields of a notice that name its subject. */
export const noticeFieldsOf = ({ key_id, agent, instance, connection_id }: RevocationSubject) => ({
  key_id: key_id ?? '',
  ...(agent === null ? {} : { agent }),
  ...(instance === null ? {} : { instance }),
  ...(key_id === null && agent === null && connection_id !== null ? { connection_id } : {}),
});
