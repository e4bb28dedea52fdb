//! What a C expression is worth, over anything that has names and members.

use super::{super::ast::Span, CBinary, CExpr, CKind, CUnary, int::CInt};

/// A value. `V` is what the scope calls an object: a place in memory with its type.
#[derive(Clone, Debug, PartialEq)]
pub enum CValue<V> {
    /// a number; an address is unsigned and 64 bits wide
    Int(CInt),
    /// a text
    Str(String),
    /// something typed that was not read yet
    Object(V),
    /// a cell that has nothing to say
    Null,
    /// what could not be read, and why
    Unreadable(String),
}

/// A yes, a no, or a don't know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Truth {
    /// not zero
    True,
    /// zero
    False,
    /// something needed could not be read
    Unknown(String),
}

/// A question that cannot be asked: a name or a member that does not exist, a text compared with a number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CError {
    /// where in the expression
    pub span: Span,
    /// what was not found or does not fit
    pub message: String,
    /// what to write instead
    pub hint: Option<String>,
}

type Found<V> = Result<CValue<V>, String>;

/// What an expression may ask. An `Err` is a question that cannot be asked of any item (a member that the type lacks);
/// what cannot be read of this item is [`CValue::Unreadable`].
pub trait CScope {
    /// a place in memory with its type
    type Val: Clone;
    /// `.`: the item itself
    fn this(&self) -> Found<Self::Val>;
    /// a column of the row or a member of the object, if there is one of that name
    fn name(&self, name: &str) -> Option<CValue<Self::Val>>;
    /// the value of an enumerator
    fn enumerator(&self, name: &str) -> Option<i64>;
    /// a global variable or function, perhaps scoped by backticks
    fn symbol(&self, name: &str) -> Option<Self::Val>;
    /// `base.name`, `base->name`
    fn member(&self, base: &Self::Val, name: &str, arrow: bool) -> Found<Self::Val>;
    /// `base[index]`
    fn index(&self, base: &Self::Val, index: i128) -> Found<Self::Val>;
    /// `*base`
    fn deref(&self, base: &Self::Val) -> Found<Self::Val>;
    /// `&base`
    fn address_of(&self, base: &Self::Val) -> Found<Self::Val>;
    /// the number in it: an integer, an enumerator, a pointer's address, an array's or function's address
    fn load(&self, object: &Self::Val) -> Found<Self::Val>;
    /// the text in it, if it is a `char` array or a `char` pointer
    fn text(&self, object: &Self::Val) -> Option<Found<Self::Val>>;
    /// the size of what a pointer or an array leads to: pointer arithmetic counts in these
    fn stride(&self, object: &Self::Val) -> Option<u64>;
    /// `sizeof(ctype)`
    fn sizeof(&self, ctype: &str) -> Result<u64, String>;
    /// `(ctype)value`; a number becomes an object if `ctype` is a pointer
    fn cast(&self, ctype: &str, value: CValue<Self::Val>) -> Found<Self::Val>;
}

/// Is the expression true of the scope's item?
pub fn test<S: CScope>(expr: &CExpr, scope: &S) -> Result<Truth, CError> {
    Evaluator { scope }.truth(expr)
}

/// The value of the expression; an object is left as it is.
pub fn eval<S: CScope>(expr: &CExpr, scope: &S) -> Result<CValue<S::Val>, CError> {
    Evaluator { scope }.value(expr)
}

struct Evaluator<'s, S> {
    scope: &'s S,
}

fn error(span: &Span, message: impl Into<String>) -> CError {
    CError { span: span.clone(), message: message.into(), hint: None }
}

/// Attaches the place to what the scope says.
fn at<T>(span: &Span, result: Result<T, String>) -> Result<T, CError> {
    result.map_err(|message| error(span, message))
}

fn int<V>(value: CInt) -> CValue<V> {
    CValue::Int(value)
}

fn truth_value<V>(truth: Truth) -> CValue<V> {
    match truth {
        Truth::True => int(CInt::bool(true)),
        Truth::False => int(CInt::bool(false)),
        Truth::Unknown(why) => CValue::Unreadable(why),
    }
}

fn truth_of(value: bool) -> Truth {
    if value { Truth::True } else { Truth::False }
}

impl<S: CScope> Evaluator<'_, S> {
    fn value(&self, expr: &CExpr) -> Result<CValue<S::Val>, CError> {
        let span = &expr.span;
        Ok(match &expr.kind {
            CKind::Int(value) => int(*value),
            CKind::Str(text) => CValue::Str(text.clone()),
            CKind::Null => int(CInt::u64(0)),
            CKind::This => at(span, self.scope.this())?,
            CKind::Name(name) => self.name(name, span)?,
            CKind::Sizeof(ctype) => int(CInt::u64(at(span, self.scope.sizeof(ctype))?)),
            CKind::Cast(ctype, operand) => match self.value(operand)? {
                CValue::Unreadable(why) => CValue::Unreadable(why),
                value => at(span, self.scope.cast(ctype, value))?,
            },
            CKind::Unary(op, operand) => self.unary(*op, operand, span)?,
            CKind::Binary(op, left, right) => self.binary(*op, left, right, span)?,
            CKind::Match { text, regex, negated } => match self.text(text)? {
                CValue::Str(found) => int(CInt::bool(regex.is_match(&found) != *negated)),
                CValue::Null => int(CInt::bool(*negated)),
                CValue::Unreadable(why) => CValue::Unreadable(why),
                _ => {
                    let hint = Some("numbers are compared with == and <".into());
                    return Err(CError { hint, ..error(&text.span, "=~ and !~ match texts, this is a number") });
                }
            },
            CKind::Member { base, name, arrow } => match self.value(base)? {
                CValue::Object(base) => at(span, self.scope.member(&base, name, *arrow))?,
                CValue::Int(_) => {
                    let hint = Some("cast it first: ((struct foo *)value)->member".into());
                    return Err(CError { hint, ..error(span, format!("a number has no member '{name}'")) });
                }
                CValue::Str(_) => return Err(error(span, format!("a text has no member '{name}'"))),
                nothing => nothing,
            },
            CKind::Index(base, index) => {
                let by = match self.number(index)? {
                    CValue::Int(by) => by.value(),
                    nothing => return Ok(nothing),
                };
                match self.value(base)? {
                    CValue::Object(base) => at(span, self.scope.index(&base, by))?,
                    CValue::Int(_) | CValue::Str(_) => {
                        return Err(error(&base.span, "only arrays and pointers have elements"));
                    }
                    nothing => nothing,
                }
            }
        })
    }

    /// A column or member shadows an enumerator, which shadows a symbol.
    fn name(&self, name: &str, span: &Span) -> Result<CValue<S::Val>, CError> {
        if let Some(value) = self.scope.name(name) {
            return Ok(value);
        }
        if let Some(value) = self.scope.enumerator(name) {
            let small = i32::try_from(value).is_ok();
            return Ok(int(CInt::new(value.into(), if small { 32 } else { 64 }, true)));
        }
        match self.scope.symbol(name) {
            Some(object) => Ok(CValue::Object(object)),
            None => Err(error(span, format!("'{name}' is no column, member, enumerator or symbol"))),
        }
    }

    fn unary(&self, op: CUnary, operand: &CExpr, span: &Span) -> Result<CValue<S::Val>, CError> {
        match op {
            CUnary::Not => Ok(truth_value(match self.truth(operand)? {
                Truth::True => Truth::False,
                Truth::False => Truth::True,
                unknown => unknown,
            })),
            CUnary::Deref | CUnary::AddressOf => match self.value(operand)? {
                CValue::Object(object) if op == CUnary::Deref => at(span, self.scope.deref(&object)),
                CValue::Object(object) => at(span, self.scope.address_of(&object)),
                CValue::Int(_) | CValue::Str(_) if op == CUnary::Deref => {
                    let hint = Some("cast it first: *(type *)value".into());
                    Err(CError { hint, ..error(span, "only a pointer can be dereferenced") })
                }
                CValue::Int(_) | CValue::Str(_) => Err(error(span, "only an object has an address")),
                nothing => Ok(nothing),
            },
            _ => Ok(match self.number(operand)? {
                CValue::Int(value) => int(match op {
                    CUnary::Neg => value.neg(),
                    CUnary::BitNot => value.not(),
                    _ => value,
                }),
                nothing => nothing,
            }),
        }
    }

    fn binary(&self, op: CBinary, left: &CExpr, right: &CExpr, span: &Span) -> Result<CValue<S::Val>, CError> {
        match op {
            CBinary::And | CBinary::Or => Ok(truth_value(self.logic(op, left, right)?)),
            CBinary::Eq | CBinary::Ne | CBinary::Lt | CBinary::Le | CBinary::Gt | CBinary::Ge => {
                Ok(truth_value(self.compare(op, left, right, span)?))
            }
            _ => {
                let (a, b) = (self.value(left)?, self.value(right)?);
                match (op, self.stride(&a), self.stride(&b)) {
                    (CBinary::Sub, Some(size), Some(_)) => self.distance(a, b, size, span),
                    (CBinary::Add, Some(_), Some(_)) => Err(error(span, "two pointers cannot be added")),
                    (CBinary::Add | CBinary::Sub, Some(_), None) => {
                        self.step(op, a, self.number_of(b, &right.span)?, span)
                    }
                    (CBinary::Add, None, Some(_)) => self.step(op, b, self.number_of(a, &left.span)?, span),
                    _ => Ok(match (self.number_of(a, &left.span)?, self.number_of(b, &right.span)?) {
                        (CValue::Int(a), CValue::Int(b)) => match a.binary(op, b) {
                            Some(value) => int(value),
                            None => CValue::Unreadable("division by zero".into()),
                        },
                        (CValue::Int(_), nothing) | (nothing, _) => nothing,
                    }),
                }
            }
        }
    }

    /// What a pointer or an array counts in.
    fn stride(&self, value: &CValue<S::Val>) -> Option<u64> {
        match value {
            CValue::Object(object) => self.scope.stride(object),
            _ => None,
        }
    }

    /// `p + n`, `p - n`: the address of the element that far away.
    fn step(
        &self,
        op: CBinary,
        pointer: CValue<S::Val>,
        by: CValue<S::Val>,
        span: &Span,
    ) -> Result<CValue<S::Val>, CError> {
        let (pointer, by) = match (pointer, by) {
            (CValue::Object(pointer), CValue::Int(by)) => (pointer, by.value()),
            (_, nothing) => return Ok(nothing),
        };
        match at(span, self.scope.index(&pointer, if op == CBinary::Sub { -by } else { by }))? {
            CValue::Object(element) => at(span, self.scope.address_of(&element)),
            nothing => Ok(nothing),
        }
    }

    /// `p - q` in elements.
    fn distance(&self, a: CValue<S::Val>, b: CValue<S::Val>, size: u64, span: &Span) -> Result<CValue<S::Val>, CError> {
        Ok(match (self.number_of(a, span)?, self.number_of(b, span)?) {
            (CValue::Int(a), CValue::Int(b)) => {
                int(CInt::new((a.value() - b.value()) / i128::from(size.max(1)), 64, true))
            }
            (CValue::Int(_), nothing) | (nothing, _) => nothing,
        })
    }

    /// `&&` and `||` of three values: what the known side decides is known.
    fn logic(&self, op: CBinary, left: &CExpr, right: &CExpr) -> Result<Truth, CError> {
        let decides = truth_of(op == CBinary::Or);
        let left = self.truth(left)?;
        if left == decides {
            return Ok(decides);
        }
        let right = self.truth(right)?;
        Ok(match (left, right) {
            (_, right) if right == decides => decides,
            (Truth::Unknown(why), _) => Truth::Unknown(why),
            (_, right) => right,
        })
    }

    /// Texts with texts, numbers with numbers, nothing with `NULL`.
    fn compare(&self, op: CBinary, left: &CExpr, right: &CExpr, span: &Span) -> Result<Truth, CError> {
        let literal_null = |expr: &CExpr| matches!(expr.kind, CKind::Null);
        let (a, b) = (self.value(left)?, self.value(right)?);
        let textual = matches!(a, CValue::Str(_)) || matches!(b, CValue::Str(_));
        let (a, b) = match textual {
            true => (self.text_of(a, &left.span)?, self.text_of(b, &right.span)?),
            false => (self.number_of(a, &left.span)?, self.number_of(b, &right.span)?),
        };
        Ok(match (a, b) {
            (CValue::Unreadable(why), _) | (_, CValue::Unreadable(why)) => Truth::Unknown(why),
            (CValue::Null, CValue::Null) => truth_of(matches!(op, CBinary::Eq | CBinary::Le | CBinary::Ge)),
            (CValue::Null, _) if literal_null(right) => truth_of(op == CBinary::Eq),
            (_, CValue::Null) if literal_null(left) => truth_of(op == CBinary::Eq),
            (CValue::Null, _) | (_, CValue::Null) => truth_of(op == CBinary::Ne),
            (CValue::Str(a), CValue::Str(b)) => truth_of(match op {
                CBinary::Eq => a == b,
                CBinary::Ne => a != b,
                CBinary::Lt => a < b,
                CBinary::Le => a <= b,
                CBinary::Gt => a > b,
                _ => a >= b,
            }),
            (CValue::Int(a), CValue::Int(b)) => truth_of(a.binary(op, b).is_some_and(|c| c.value() != 0)),
            _ => {
                let hint = Some("text stands in double quotes: \"text\"".into());
                return Err(CError { hint, ..error(span, format!("{} compares a text with a number", op.symbol())) });
            }
        })
    }

    fn truth(&self, expr: &CExpr) -> Result<Truth, CError> {
        // the operators that make truths need no detour through numbers
        if let CKind::Binary(op @ (CBinary::And | CBinary::Or), left, right) = &expr.kind {
            return self.logic(*op, left, right);
        }
        let value = match self.value(expr)? {
            CValue::Str(text) => return Ok(truth_of(!text.is_empty())),
            value => self.number_of(value, &expr.span)?,
        };
        Ok(match value {
            CValue::Int(value) => truth_of(value.value() != 0),
            CValue::Unreadable(why) => Truth::Unknown(why),
            _ => Truth::False,
        })
    }

    fn number(&self, expr: &CExpr) -> Result<CValue<S::Val>, CError> {
        self.number_of(self.value(expr)?, &expr.span)
    }

    /// A number, or a reason why there is none.
    fn number_of(&self, value: CValue<S::Val>, span: &Span) -> Result<CValue<S::Val>, CError> {
        let value = match value {
            CValue::Object(object) => at(span, self.scope.load(&object))?,
            value => value,
        };
        match value {
            CValue::Object(_) => Err(error(span, "a whole struct is no number")),
            CValue::Str(_) => Err(error(span, "a text is no number")),
            value => Ok(value),
        }
    }

    fn text(&self, expr: &CExpr) -> Result<CValue<S::Val>, CError> {
        self.text_of(self.value(expr)?, &expr.span)
    }

    /// The text of an object that has one; any other value as it is.
    fn text_of(&self, value: CValue<S::Val>, span: &Span) -> Result<CValue<S::Val>, CError> {
        match value {
            CValue::Object(object) => match self.scope.text(&object) {
                Some(text) => at(span, text),
                None => self.number_of(CValue::Object(object), span),
            },
            value => Ok(value),
        }
    }
}
