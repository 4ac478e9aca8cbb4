import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** The part of V8's .cpuprofile that is read. */
interface CpuProfile {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number };
  }[];
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

const TOP_FUNCTIONS = 15;

const placeOf = (url: string, line: number): string => {
  if (url === '') return '';
  const short = url.replace(/^.*\/(src|node_modules)\//, '$1/');
  return ` ${short}:${line + 1}`;
};

/** Self time by function of one profile, as shares of the time that was not idle. */
const topOf = (profile: CpuProfile): string[] => {
  const nameById = new Map(
    profile.nodes.map(({ id, callFrame }) => [
      id,
      `${callFrame.functionName === '' ? '(anonymous)' : callFrame.functionName}${placeOf(callFrame.url, callFrame.lineNumber)}`,
    ]),
  );
  const selfUs = new Map<string, number>();
  let busyUs = 0;
  for (const [index, id] of profile.samples.entries()) {
    const name = nameById.get(id) ?? '?';
    const deltaUs = profile.timeDeltas[index] ?? 0;
    if (name.startsWith('(idle)')) continue;
    busyUs += deltaUs;
    selfUs.set(name, (selfUs.get(name) ?? 0) + deltaUs);
  }
  const top = [...selfUs].sort((a, b) => b[1] - a[1]).slice(0, TOP_FUNCTIONS);
  return [
    `busy ${(busyUs / 1e6).toFixed(2)} s`,
    ...top.map(([name, us]) => `${((100 * us) / busyUs).toFixed(1).padStart(5)} %  ${name}`),
  ];
};

/** The busiest functions of each process's main thread, from the profiles that profiler.mjs left. */
export const summarizeProfiles = (directory: string, roles: Readonly<Record<string, number>>): string => {
  const roleByPid = new Map(Object.entries(roles).map(([role, pid]) => [String(pid), role]));
  const sections = readdirSync(directory)
    .filter((name) => name.endsWith('.cpuprofile'))
    .sort()
    .flatMap((name) => {
      const role = roleByPid.get(name.replace('.cpuprofile', ''));
      if (role === undefined) return [];
      const profile = JSON.parse(readFileSync(join(directory, name), 'utf8')) as CpuProfile;
      return [`#### ${role}`, '', ...topOf(profile).map((line) => `    ${line}`), ''];
    });
  return sections.join('\n');
};
