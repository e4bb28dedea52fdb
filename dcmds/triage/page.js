document.querySelector('.icicle').addEventListener('click', event => {
  const bar = event.target.closest('.b');
  if (!bar) return;
  for (const off of document.querySelectorAll('.off')) off.classList.remove('off');
  for (let at = bar.parentElement; at.parentElement.matches('.k'); at = at.parentElement.parentElement)
    for (const other of at.parentElement.children) if (other !== at) other.classList.add('off');
});
