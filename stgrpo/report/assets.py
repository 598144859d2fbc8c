"""The page's style sheet and script. The page reads well without the script; it adds hovering and stepping."""

STYLE = """
:root{--bg:#fbf8f3;--card:#fff;--ink:#26211c;--soft:#6d6359;--line:#e6ded3;--track:#eee7dc;--sft:#3f74b5;--grpo:#cf5424;
--base:#8a7f72;--paper:#a89c8c;--good:#2c7a47;--fair:#8a6d00;--poor:#b25a00;--bad:#b3261e;--floor:#f4ede2;--third:#7a4fa3;
--fourth:#2c8077}
@media(prefers-color-scheme:dark){:root{--bg:#171412;--card:#211d1a;--ink:#efe8df;--soft:#a99d90;--line:#3a332d;
--track:#332d27;--sft:#7fb0ec;--grpo:#ff9160;--base:#a99d90;--paper:#82776b;--good:#6fcf91;--fair:#e3bf4d;--poor:#f0a05a;
--bad:#ff8a80;--floor:#2a2521;--third:#c39be8;--fourth:#66c7bb}}
*{box-sizing:border-box}
html{scroll-behavior:smooth}
body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1120px;margin:0 auto;padding:0 20px 80px}
h1{font-size:clamp(1.5rem,4vw,2.3rem);line-height:1.15;margin:.1em 0 .6em;letter-spacing:-.02em;text-wrap:balance}
h2{font-size:1.5rem;margin:2.2em 0 .6em;letter-spacing:-.01em;border-bottom:2px solid var(--grpo);display:inline-block}
h3{font-size:1.1rem;margin:1.6em 0 .6em}h4,h5{margin:0;font-size:.95rem}
small{color:var(--soft);font-weight:400}p{margin:.5em 0}
.brand{font-weight:700;color:var(--grpo);margin:28px 0 0;letter-spacing:.02em}
.defs{position:absolute}
.facts{display:flex;flex-wrap:wrap;gap:10px 28px;margin:0}
dt{color:var(--soft);font-size:.8rem}dd{margin:0;overflow-wrap:anywhere}.facts dd{font-weight:600}
nav{display:flex;flex-wrap:wrap;gap:8px;margin:20px 0 0}
nav a{color:inherit;text-decoration:none;border:1px solid var(--line);border-radius:99px;padding:4px 14px;
background:var(--card)}
nav a:hover{border-color:var(--grpo)}
article,.headline,.chart{background:var(--card);border:1px solid var(--line);border-radius:12px}
article{padding:18px 20px;margin:0 0 18px}article>h3{margin-top:0}
.headline{margin-top:22px;padding:20px 24px}
.figures{display:flex;flex-wrap:wrap;align-items:center;gap:8px 26px}
.figure{display:flex;flex-direction:column;color:var(--tone)}
.figure span{font-weight:600}.figure strong{font-size:clamp(2rem,7vw,3.2rem);line-height:1.1;letter-spacing:-.03em}
.arrow{font-size:2rem;color:var(--soft)}
.tone-sft{--tone:var(--sft)}.tone-grpo{--tone:var(--grpo)}.tone-base{--tone:var(--base)}.tone-paper{--tone:var(--paper)}
.absent{border:1px dashed var(--line);border-radius:10px;padding:10px 14px;color:var(--soft)}
.absent strong{color:var(--ink)}
.scroll{overflow-x:auto;margin:0 -20px;padding:0 20px}
table{border-collapse:collapse;width:100%;font-size:.92rem;font-variant-numeric:tabular-nums}
th,td{text-align:right;padding:6px 8px;border-bottom:1px solid var(--line);white-space:nowrap}
th:first-child{text-align:left;padding-left:0}thead th{color:var(--soft);font-weight:600;font-size:.82rem}
tbody th{font-weight:500}.own th,.own td{font-weight:600}#results td:nth-child(3){padding-right:0;width:124px}
#results td:nth-child(4),#results th:nth-child(4){text-align:left}
.group th{color:var(--soft);font-size:.82rem;padding-top:14px;font-weight:600}
.interval{color:var(--soft);font-weight:400;font-size:.85em;margin-left:.35em}
.bar{display:block}.bar .track{fill:var(--track);width:120px}.bar .fill{fill:var(--tone,var(--base));opacity:.75}
.bar .whisker{stroke:var(--ink);stroke-width:1.5;fill:none}
.verdict{border-left:4px solid var(--grpo);padding:4px 0 4px 14px;margin:16px 0}
.ends{margin:10px 0 14px}.stack{display:flex;gap:2px;height:16px;border-radius:5px;overflow:hidden;margin:4px 0}
.stack span{background:var(--tone);min-width:3px}
.key{color:var(--soft);font-size:.82rem;margin-right:14px;white-space:nowrap;display:inline-block}
.key b{color:var(--ink)}
.key:before{content:"";display:inline-block;width:9px;height:9px;border-radius:2px;
background:var(--tone);margin-right:5px}
.end-solved{--tone:var(--good)}.end-timeout{--tone:var(--fair)}.end-loop{--tone:var(--poor)}.end-invalid{--tone:var(--bad)}
.end-format{--tone:var(--third)}.end-finish{--tone:var(--base)}.end-prompt_too_long{--tone:var(--fourth)}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(310px,100%),1fr));gap:14px}
.chart{margin:0;padding:12px 14px 8px;min-width:0}
.chart figcaption{display:flex;flex-wrap:wrap;justify-content:space-between}
.chart .key:last-child{margin-right:0}.chart svg{display:block;width:100%;height:auto;touch-action:pan-y}
.readout{font-size:.8rem;color:var(--soft);min-height:1.4em;margin:.2em 0 0;font-variant-numeric:tabular-nums}
.s0{--tone:var(--grpo)}.s1{--tone:var(--sft)}.s2{--tone:var(--third)}.s3{--tone:var(--fourth)}
.line,.raw{fill:none;stroke:var(--tone);stroke-width:2;stroke-linejoin:round}.raw{stroke-width:1;opacity:.35}
.dot{fill:var(--tone)}.grid{stroke:var(--line);stroke-width:1}.axis{stroke:var(--soft);stroke-width:1}
.tick{fill:var(--soft);font-size:10.5px}.cursor[hidden]{display:none}.cursor{stroke:var(--soft);stroke-dasharray:3 3}
summary{cursor:pointer}details{margin:8px 0}
.replay{border:1px solid var(--line);border-radius:10px;padding:0 14px;margin:8px 0;min-width:0}
.replay>summary{padding:9px 0}.replay[open]>summary{border-bottom:1px solid var(--line)}
.pair{border-left:3px solid var(--line);padding-left:12px;margin:16px 0}
.goal{font-weight:600;margin:10px 0 4px}
.frames{list-style:none;margin:0;padding:0 0 12px}.frame{padding:10px 0}
.frame h5{font-size:1rem;margin:0 0 8px}.left{font-weight:400;color:var(--soft);font-size:.85rem;margin-left:8px}
.split{display:grid;grid-template-columns:minmax(0,400px) minmax(0,1fr);gap:20px}
.view{background:var(--floor);border-radius:10px;padding:8px;text-align:center}
.kitchen{max-width:100%;height:auto;display:inline-block;vertical-align:top}
.kitchen .name{font:600 9.5px system-ui,sans-serif;text-anchor:middle}
.focus{fill:none;stroke:var(--grpo);stroke-width:2.5}
.way{fill:none;stroke:var(--grpo);stroke-width:2.5;stroke-dasharray:5 4}.tip{fill:var(--grpo)}
.judge{font-weight:600}.judge.good{color:var(--good)}.judge.fair{color:var(--fair)}.judge.poor{color:var(--poor)}
.judge.bad{color:var(--bad)}p.judge{margin:0 0 8px}
.frame dl{margin:0 0 10px;display:grid;grid-template-columns:auto 1fr;gap:2px 12px}.frame dt{font-size:.9rem}
pre{white-space:pre-wrap;overflow-wrap:anywhere;margin:0;
font:13px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
.response{background:var(--floor);border-radius:8px;padding:10px 12px;max-height:320px;overflow:auto}
.observation{max-height:300px;overflow:auto;font-size:12px}
.split details summary{color:var(--soft);font-size:.85rem}
.controls{display:flex;align-items:center;gap:8px;padding:10px 0 0}
.controls button{font:inherit;color:inherit;background:var(--card);border:1px solid var(--line);border-radius:8px;
padding:4px 13px;cursor:pointer}
.controls button:hover:enabled{border-color:var(--grpo)}.controls button:disabled{opacity:.4;cursor:default}
.controls input{flex:1;min-width:60px;accent-color:var(--grpo)}
.controls output{font-variant-numeric:tabular-nums;color:var(--soft);white-space:nowrap}
.track-marks{display:flex;gap:3px;margin:8px 0 0}
.track-marks i{flex:1;height:5px;border-radius:3px;background:var(--line);opacity:.45}
.track-marks i.on{opacity:1}
i[data-tone=good]{background:var(--good)}i[data-tone=fair]{background:var(--fair)}i[data-tone=poor]{background:var(--poor)}
i[data-tone=bad]{background:var(--bad)}
.settings{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(240px,100%),1fr));gap:8px 18px;margin:10px 0}
:focus-visible{outline:2px solid var(--grpo);outline-offset:2px}
@media(max-width:760px){.split{grid-template-columns:minmax(0,1fr);gap:12px}main{padding:0 14px 60px}
article{padding:14px}.scroll{margin:0 -14px;padding:0 14px}.pair{padding-left:8px}.replay{padding:0 10px}
.interval{display:block;margin:0}tbody th:first-child{white-space:normal}
.arrow,#results td:nth-child(3),#results thead th:nth-child(3){display:none}.controls button{padding:6px 10px}}
@media(prefers-reduced-motion:reduce){html{scroll-behavior:auto}}
@media print{.controls,nav{display:none}}
"""

SCRIPT = """
'use strict';
for (const svg of document.querySelectorAll('svg[data-points]')) {
  const series = JSON.parse(svg.dataset.points), cursor = svg.querySelector('.cursor');
  const readout = svg.parentNode.querySelector('.readout'), note = readout.textContent;
  svg.querySelector('title').remove();
  svg.addEventListener('pointermove', event => {
    const box = svg.getBoundingClientRect(), x = (event.clientX - box.left) / box.width * svg.viewBox.baseVal.width;
    const near = series.map(s => s.p.reduce((a, b) => Math.abs(b[2] - x) < Math.abs(a[2] - x) ? b : a));
    cursor.setAttribute('transform', 'translate(' + near[0][2] + ' 0)');
    cursor.removeAttribute('hidden');
    readout.textContent = 'step ' + near[0][0] + ': ' + near.map((p, i) =>
      (series.length > 1 ? series[i].l + ' ' : '') + p[1]).join(', ');
  });
  svg.addEventListener('pointerleave', () => { cursor.setAttribute('hidden', ''); readout.textContent = note; });
}
function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}
for (const list of document.querySelectorAll('.frames')) {
  const frames = [...list.children], last = frames.length - 1;
  let at = 0, timer = 0;
  const marks = element('div', {className: 'track-marks'}, ...frames.map(frame => {
    const mark = element('i', {});
    mark.dataset.tone = frame.dataset.tone;
    return mark;
  }));
  marks.setAttribute('aria-hidden', 'true');
  const back = element('button', {type: 'button', textContent: '‹', title: 'Previous step', onclick: () => go(at - 1)});
  const next = element('button', {type: 'button', textContent: '›', title: 'Next step', onclick: () => go(at + 1)});
  const play = element('button', {type: 'button', textContent: 'Play', onclick: toggle});
  const slider = element('input', {type: 'range', min: 0, max: last, value: 0, oninput: () => go(+slider.value)});
  const where = element('output', {});
  slider.setAttribute('aria-label', 'Step');
  back.setAttribute('aria-label', 'Previous step');
  next.setAttribute('aria-label', 'Next step');
  function stop() { clearInterval(timer); timer = 0; play.textContent = 'Play'; }
  function toggle() {
    if (timer) return stop();
    if (at === last) show(0);
    play.textContent = 'Stop';
    timer = setInterval(() => at < last ? show(at + 1) : stop(), 1200);
  }
  function go(step) { stop(); show(step); }
  function show(step) {
    at = Math.max(0, Math.min(last, step));
    frames.forEach((frame, i) => { frame.hidden = i !== at; });
    [...marks.children].forEach((mark, i) => mark.classList.toggle('on', i <= at));
    slider.value = at;
    where.textContent = (at + 1) + ' / ' + frames.length;
    back.disabled = at === 0;
    next.disabled = at === last;
  }
  list.before(element('div', {className: 'controls'}, back, next, slider, where, play), marks);
  list.parentNode.addEventListener('keydown', event => {
    if (event.target === slider || !['ArrowLeft', 'ArrowRight'].includes(event.key)) return;
    if (event.target.closest('pre')) return;
    event.preventDefault();
    go(at + (event.key === 'ArrowRight' ? 1 : -1));
  });
  show(0);
}
"""
