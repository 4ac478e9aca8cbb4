import type { CommandShape } from './shape.ts';
import { type Candidate, commandKeys, placesOf, valuesIn } from './table.ts';

/** For single quotes of fish, where a backslash counts. */
const quoted = (text: string): string => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
const list = (keys: readonly string[]): string => keys.map(quoted).join(' ');

const printed = (pattern: string, candidates: readonly Candidate[]): string =>
  candidates.length === 0
    ? `        case ${quoted(pattern)}`
    : `        case ${quoted(pattern)}\n            printf '%s\\t%s\\n' ${candidates
        .map(({ word, description }) => `${word} ${quoted(description)}`)
        .join(' ')}`;

/** The completion script for fish 3 and newer. */
export const fishCompletion = (program: CommandShape): string => {
  const places = placesOf(program);
  const { all, paths, chosen, free } = valuesIn(places);
  return `# fish completion for sallyport, made by \`sallyport completion fish\`.
function __sallyport_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l path ''
    set -l skip 0
    for word in $words[2..-1]
        if test $skip = 1
            set skip 0
            continue
        end
        switch "$path $word"
            case ${list(all)}
                set skip 1
            case ${list(commandKeys(program))}
                set path "$path $word"
        end
    end
    switch "$path $words[-1]"
        case ${list(paths)}
            __fish_complete_path $current
            return
${chosen.map(({ key, choices }) => `        case ${quoted(key)}\n            printf '%s\\n' ${choices.join(' ')}\n            return`).join('\n')}
        case ${list(free)}
            return
    end
    set -l begun (string sub -l 1 -- $current)
    switch "$path|$begun"
${places
  .flatMap(({ path, words, options }) => [printed(`${path}|-`, options), printed(`${path}|*`, words)])
  .join('\n')}
    end
    switch "$path"
        case ${list(places.filter(({ takesPath }) => takesPath).map(({ path }) => path))}
            __fish_complete_path $current
    end
end
complete -c sallyport -f -a '(__sallyport_complete)'
`;
};
