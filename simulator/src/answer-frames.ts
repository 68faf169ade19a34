import type { Language } from './language.ts'

/** The sentences of one language. `{phrase}` is quoted from the prompt, `{aspect}` is one of the aspects. */
export interface AnswerFrames {
  readonly openings: readonly string[]
  readonly bodies: readonly string[]
  readonly closings: readonly string[]
  readonly aspects: readonly string[]
  /** Said when the prompt holds pictures. */
  readonly image: string
  /** Said after a tool has answered; `{phrase}` is its result. */
  readonly toolResult: string
  /** Stands for the phrase when the prompt has no text. */
  readonly emptyPhrase: string
  /** Between two sentences. */
  readonly gap: string
}

export const ANSWER_FRAMES: Record<Language, AnswerFrames> = {
  en: {
    openings: [
      'Taking “{phrase}” as the starting point, {aspect} is the first thing to settle.',
      'There are a few good ways to approach “{phrase}”, and they differ mostly in {aspect}.',
      'The short answer to “{phrase}” depends on {aspect}, so it helps to begin there.',
      'For “{phrase}”, it is worth separating what is fixed from what can still change.',
      'Here is a compact view of “{phrase}”, with the points that usually decide the outcome.',
    ],
    bodies: [
      'In most cases {aspect} matters more than it seems at first, because later steps build on it.',
      'A small example makes {aspect} clear long before a general rule does.',
      'It is sensible to write down the expected result first and to compare {aspect} with it afterwards.',
      'When two options look equal, choose the one that keeps {aspect} easy to change.',
      'Problems tend to appear around {aspect}, so that part deserves an early check.',
      'One common mistake is to improve everything at once; start with {aspect} and measure again.',
      'If time is short, {aspect} can wait, provided that the open question is written down.',
      'Looking at real cases shows how strongly {aspect} depends on the people who use the result.',
      'Two or three independent sources are enough to judge {aspect} with some confidence.',
      'Seen from the outside, {aspect} should stay simple, even when the inside is not.',
    ],
    closings: [
      'With that in place, the remaining details of “{phrase}” are a matter of routine.',
      'A first version can be ready quickly, and refined once feedback arrives.',
      'If you share more about the context, the answer can become more specific.',
      'That is usually enough to decide on the next step.',
    ],
    aspects: ['the goal', 'the cost', 'the order of the steps', 'the underlying data', 'the audience', 'the time available', 'the level of detail', 'the way success is measured', 'the weakest link', 'the wording'],
    image: 'The attached image supports this: its main subject stands out clearly, and the surroundings give useful context.',
    toolResult: 'According to the result of the tool, “{phrase}”, the question can be answered directly.',
    emptyPhrase: 'your message',
    gap: ' ',
  },
  es: {
    openings: [
      'Si partimos de «{phrase}», lo primero que conviene aclarar es {aspect}.',
      'Hay varias maneras razonables de abordar «{phrase}», y se distinguen sobre todo por {aspect}.',
      'La respuesta breve a «{phrase}» pasa por {aspect}, así que empezamos por ahí.',
      'En el caso de «{phrase}», ayuda separar lo que ya está decidido de lo que todavía puede cambiar.',
      'Este es un resumen de «{phrase}» con los puntos que suelen inclinar la balanza.',
    ],
    bodies: [
      'En la mayoría de los casos, {aspect} pesa más de lo que parece, porque los pasos siguientes se apoyan en ello.',
      'Un ejemplo pequeño explica {aspect} mejor que una regla general.',
      'Es útil anotar primero el resultado esperado y comparar después {aspect} con esa nota.',
      'Cuando dos opciones parecen iguales, elige la que permita cambiar {aspect} sin esfuerzo.',
      'Las dificultades suelen aparecer en {aspect}, de modo que vale la pena revisarlo pronto.',
      'Un error habitual es mejorar todo a la vez; empieza por {aspect} y vuelve a medir.',
      'Si falta tiempo, {aspect} puede esperar, siempre que la duda quede por escrito.',
      'Los casos reales muestran hasta qué punto {aspect} depende de quienes usan el resultado.',
      'Con dos o tres fuentes independientes basta para valorar {aspect} con cierta seguridad.',
      'Visto desde fuera, {aspect} debería ser sencillo aunque por dentro no lo sea.',
    ],
    closings: [
      'Con esa base, los demás detalles de «{phrase}» se resuelven con facilidad.',
      'Una primera versión puede estar lista pronto y mejorar con las opiniones que lleguen.',
      'Si me das más contexto, la respuesta puede ser más concreta.',
      'Con esto suele bastar para decidir el siguiente paso.',
    ],
    aspects: ['el objetivo', 'el coste', 'el orden de los pasos', 'el punto de partida', 'el público', 'el tiempo disponible', 'el nivel de detalle', 'el criterio de éxito', 'el eslabón más débil', 'el vocabulario'],
    image: 'La imagen adjunta lo confirma: el motivo principal se distingue bien y el entorno aporta contexto.',
    toolResult: 'Según el resultado de la herramienta, «{phrase}», la pregunta se puede contestar directamente.',
    emptyPhrase: 'tu mensaje',
    gap: ' ',
  },
  fr: {
    openings: [
      'En partant de « {phrase} », il faut d’abord préciser un point : {aspect}.',
      'Plusieurs approches conviennent pour « {phrase} », et ce qui les distingue surtout, c’est {aspect}.',
      'La réponse courte à « {phrase} » tient à une question centrale, {aspect}, et c’est par là que nous commençons.',
      'Pour « {phrase} », mieux vaut séparer ce qui est déjà fixé de ce qui peut encore évoluer.',
      'Voici un aperçu de « {phrase} », avec les points qui font en général la différence.',
    ],
    bodies: [
      'Le plus souvent, {aspect} compte davantage qu’on ne le croit, car la suite en dépend.',
      'Un petit exemple montre {aspect} plus vite qu’une règle générale.',
      'Il est utile de noter d’abord le résultat attendu, puis de comparer {aspect} avec cette note.',
      'Quand deux options se valent, choisissez celle qui laisse {aspect} facile à modifier.',
      'Les difficultés viennent volontiers de là : {aspect} mérite donc une vérification précoce.',
      'Une erreur fréquente consiste à tout améliorer en même temps ; commencez par {aspect}, puis mesurez à nouveau.',
      'Si le temps manque, {aspect} peut attendre, à condition de garder une trace écrite.',
      'Les cas réels montrent combien {aspect} varie selon les personnes qui utilisent le résultat.',
      'Deux ou trois sources indépendantes suffisent pour juger {aspect} avec une certaine assurance.',
      'Vu de l’extérieur, {aspect} devrait rester simple, même si l’intérieur ne l’est pas.',
    ],
    closings: [
      'Sur cette base, les autres détails de « {phrase} » se règlent sans peine.',
      'Une première version peut être prête rapidement, puis s’améliorer avec les retours.',
      'Avec un peu plus de contexte, la réponse pourra être plus précise.',
      'Cela suffit en général pour choisir l’étape suivante.',
    ],
    aspects: ['le but', 'le coût', 'l’ordre des étapes', 'le point de départ', 'le public visé', 'le temps disponible', 'le niveau de détail', 'la mesure du succès', 'le maillon le plus faible', 'le choix des mots'],
    image: 'L’image jointe va dans ce sens : le sujet principal se détache nettement et le décor donne des indications utiles.',
    toolResult: 'D’après le résultat de l’outil, « {phrase} », la question trouve une réponse directe.',
    emptyPhrase: 'votre message',
    gap: ' ',
  },
  de: {
    openings: [
      'Bei „{phrase}“ lohnt es sich, zuerst eine Frage zu klären: {aspect}.',
      'Für „{phrase}“ gibt es mehrere gute Wege; der wichtigste Unterschied ist {aspect}.',
      'Die kurze Antwort auf „{phrase}“ hat einen Kern, und das ist {aspect}.',
      'Wer über „{phrase}“ nachdenkt, trennt am besten das, was feststeht, von dem, was sich noch ändern kann.',
      'Hier folgt ein knapper Überblick zu „{phrase}“ mit den Punkten, die meist den Ausschlag geben.',
    ],
    bodies: [
      'Meistens ist {aspect} wichtiger als zunächst gedacht, denn die nächsten Schritte bauen darauf auf.',
      'An einem kleinen Beispiel wird schnell deutlich, was {aspect} bedeutet.',
      'Entscheidend ist oft {aspect}; ein vorher notiertes Ziel macht den späteren Vergleich leicht.',
      'Sind zwei Möglichkeiten gleich gut, dann entscheidet am Ende {aspect}.',
      'Schwierigkeiten zeigen sich früh, und {aspect} ist dafür ein verlässlicher Hinweis.',
      'Ein häufiger Fehler ist, alles zugleich zu verbessern; zuerst zählt {aspect}, danach wird neu gemessen.',
      'Ist die Zeit knapp, muss {aspect} warten, solange die offene Frage notiert ist.',
      'Echte Fälle zeigen, wie eng {aspect} mit den Menschen zusammenhängt, die das Ergebnis nutzen.',
      'Zwei oder drei unabhängige Quellen genügen, damit {aspect} gut einzuschätzen ist.',
      'Von außen gesehen sollte {aspect} einfach bleiben, auch wenn es innen anders aussieht.',
    ],
    closings: [
      'Auf dieser Grundlage lassen sich die übrigen Einzelheiten zu „{phrase}“ leicht klären.',
      'Eine erste Fassung ist rasch fertig und wird mit jeder Rückmeldung besser.',
      'Mit etwas mehr Kontext kann die Antwort genauer werden.',
      'Das reicht in der Regel aus, um den nächsten Schritt festzulegen.',
    ],
    aspects: ['das Ziel', 'der Aufwand', 'die Reihenfolge der Schritte', 'die Datenlage', 'die Zielgruppe', 'der Zeitrahmen', 'die Genauigkeit', 'das Maß für den Erfolg', 'die schwächste Stelle', 'die Wortwahl'],
    image: 'Das angefügte Bild passt dazu: Das Hauptmotiv ist gut zu erkennen, und die Umgebung liefert nützliche Hinweise.',
    toolResult: 'Das Werkzeug hat „{phrase}“ geliefert, und damit lässt sich die Frage direkt beantworten.',
    emptyPhrase: 'Ihre Nachricht',
    gap: ' ',
  },
  ja: {
    openings: [
      '「{phrase}」について考えるとき、まず{aspect}をはっきりさせるとよいでしょう。',
      '「{phrase}」にはいくつかの進め方があり、主な違いは{aspect}にあります。',
      '「{phrase}」への短い答えは{aspect}によって変わるので、そこから始めます。',
      '「{phrase}」では、すでに決まっていることと、まだ変えられることを分けて考えると楽になります。',
      '「{phrase}」の要点を、結果を左右しやすい順に簡単にまとめます。',
    ],
    bodies: [
      '多くの場合、{aspect}は最初の印象より大切で、後の作業の土台になります。',
      '小さな例を一つ作ると、{aspect}がすぐに見えてきます。',
      '期待する結果を先に書いておき、あとで{aspect}と比べると安心です。',
      '二つの案が同じくらい良いときは、{aspect}を変えやすいほうを選びます。',
      '問題は{aspect}のあたりで起きやすいので、早めに確認しておきましょう。',
      'すべてを一度に直すのではなく、{aspect}から始めて測り直すのが確実です。',
      '時間が足りなければ{aspect}は後回しにして、疑問だけを書き残しておきます。',
      '実際の例を見ると、{aspect}は使う人によって大きく変わることがわかります。',
      '独立した情報が二つか三つあれば、{aspect}をある程度自信を持って判断できます。',
      '中身が複雑でも、外から見た{aspect}は簡単なままにしておきたいところです。',
    ],
    closings: [
      'ここまで整えば、「{phrase}」の残りの細部は順に片づきます。',
      '最初の版は早めに用意し、意見をもらいながら直していけば十分です。',
      'もう少し状況を教えていただければ、より具体的にお答えできます。',
      'たいていは、これで次の一歩を決められます。',
    ],
    aspects: ['目的', '費用', '作業の順番', '元になるデータ', '対象となる読み手', '使える時間', '説明の細かさ', '成功の基準', 'いちばん弱い部分', '言葉の選び方'],
    image: '添付の画像もこの点を裏づけています。主な被写体がはっきり見え、周りの様子も手がかりになります。',
    toolResult: 'ツールの結果「{phrase}」によれば、ご質問にはそのままお答えできます。',
    emptyPhrase: 'ご質問',
    gap: '',
  },
  ar: {
    openings: [
      'عند النظر في «{phrase}» يحسن أن نبدأ بتوضيح {aspect}.',
      'هناك أكثر من طريقة جيدة للتعامل مع «{phrase}»، والفرق الأهم بينها هو {aspect}.',
      'الجواب المختصر عن «{phrase}» يتوقف على {aspect}، ولذلك نبدأ من هنا.',
      'في موضوع «{phrase}» من المفيد أن نفصل بين ما هو ثابت وما يمكن تغييره.',
      'هذه نظرة موجزة إلى «{phrase}» مع النقاط التي تحسم النتيجة عادة.',
    ],
    bodies: [
      'في أغلب الحالات يكون {aspect} أهم مما يبدو في البداية، لأن الخطوات التالية تعتمد عليه.',
      'مثال صغير واحد يوضح {aspect} أسرع من أي قاعدة عامة.',
      'من المفيد كتابة النتيجة المتوقعة أولا ثم مقارنة {aspect} بها لاحقا.',
      'إذا تساوى خياران فاختر ما يجعل تعديل {aspect} أسهل.',
      'تظهر الصعوبات غالبا حول {aspect}، ولهذا يستحق مراجعة مبكرة.',
      'من الأخطاء الشائعة تحسين كل شيء دفعة واحدة؛ ابدأ مع {aspect} ثم أعد القياس.',
      'إذا ضاق الوقت فيمكن تأجيل {aspect} بشرط تدوين السؤال المفتوح.',
      'تبين الحالات الواقعية أن {aspect} يختلف باختلاف من يستخدم النتيجة.',
      'يكفي مصدران أو ثلاثة مستقلة لتقدير {aspect} بقدر معقول من الثقة.',
      'من الخارج ينبغي أن يبقى {aspect} بسيطا حتى لو كان الداخل معقدا.',
    ],
    closings: [
      'وبعد ذلك تصبح بقية تفاصيل «{phrase}» سهلة الترتيب.',
      'يمكن إعداد نسخة أولى بسرعة ثم تحسينها مع وصول الملاحظات.',
      'وإذا ذكرت مزيدا من السياق أمكن أن يكون الجواب أدق.',
      'وهذا يكفي عادة لاختيار الخطوة التالية.',
    ],
    aspects: ['الهدف', 'المقدار المطلوب', 'ترتيب الخطوات', 'مصدر البيانات', 'الجمهور', 'الوقت المتاح', 'مستوى التفصيل', 'معيار النجاح', 'الجزء الأضعف', 'اختيار الكلمات'],
    image: 'والصورة المرفقة تؤيد ذلك، فالموضوع الرئيسي فيها واضح والمحيط يقدم إشارات مفيدة.',
    toolResult: 'بحسب نتيجة الأداة «{phrase}» يمكن الإجابة عن السؤال مباشرة.',
    emptyPhrase: 'رسالتك',
    gap: ' ',
  },
}
