// The page reads well without this; it adds hovering and stepping.
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
    readout.textContent = svg.dataset.x + ' ' + near[0][0] + ': ' + near.map((p, i) =>
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
